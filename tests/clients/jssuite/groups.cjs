// A group of three whose members join, leave and die, for a client of JavaScript: {
//   create(): a topic of six partitions
//   produce(topic, first, count): sends the numbers from first on, spread over the partitions
//   join(topic, group, say): takes part in a group, says `owns COUNT` and `got VALUE`, commits; resolves to a function
//     that leaves
// }
'use strict'

const assert = require('node:assert')
const { spawn } = require('node:child_process')
const { createInterface } = require('node:readline')
const { check, eventually, sleep } = require('./check.cjs')

class Member {
  owned = 0
  count = 0
  got = new Set()

  hear (line) {
    const [what, value] = line.split(' ')
    if (what === 'owns') this.owned = Number(value)
    if (what === 'got') {
      this.got.add(value)
      this.count++
    }
  }

  static async here (client, topic, group) {
    const member = new Member()
    member.leave = await client.join(topic, group, line => member.hear(line))
    return member
  }

  static apart (topic, group) {
    const member = new Member()
    const command = [...process.execArgv, process.argv[1], 'member', topic, group]
    member.process = spawn(process.execPath, command, { stdio: ['ignore', 'pipe', 'inherit'] })
    createInterface({ input: member.process.stdout }).on('line', line => member.hear(line))
    process.on('exit', () => member.process.kill('SIGKILL'))
    return member
  }
}

// Whether this process was started as a member; it is one until it is killed.
async function asMember (client) {
  const [what, topic, group] = process.argv.slice(2)
  if (what !== 'member') return false
  await client.join(topic, group, line => console.log(line))
  return true
}

// Members share a topic, die and leave, and the group goes on where it was: 700 records. Resolves to the topic.
async function groups (client, group) {
  const topic = await client.create()
  const all = (...members) => new Set(members.flatMap(m => [...m.got])).size
  let first, second, third
  await check('a group of three shares six partitions', async () => {
    first = await Member.here(client, topic, group)
    second = await Member.here(client, topic, group)
    third = Member.apart(topic, group)
    await eventually('two partitions each', 30, () => [first, second, third].every(m => m.owned === 2))
    await client.produce(topic, 0, 300)
    await eventually('300 records', 20, () => all(first, second, third) === 300)
  })
  await check('a member that dies is replaced', async () => {
    third.process.kill('SIGKILL')
    await eventually('three partitions each', 30, () => first.owned === 3 && second.owned === 3)
    await client.produce(topic, 300, 300)
    await eventually('600 records', 20, () => all(first, second, third) === 600)
  })
  await check('a member that leaves is replaced at once', async () => {
    await second.leave()
    await eventually('six partitions', 5, () => first.owned === 6)
  })
  await check('a group resumes where it committed', async () => {
    await first.leave()
    await client.produce(topic, 600, 100)
    const again = await Member.here(client, topic, group)
    await eventually('100 records', 20, () => again.count >= 100)
    await sleep(300)
    assert.strictEqual(again.count, 100)
    await again.leave()
  })
  return topic
}

module.exports = { asMember, groups }
