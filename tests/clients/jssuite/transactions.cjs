// Transactions, for a client of JavaScript: {
//   create(name): a topic of two partitions
//   open(id): a producer of this transactional id, with begin(), send(topic, partition, values), commit(), abort() and
//     close()
//   follow(topic, committed, each): reads from the beginning, calls each(partition, value); resolves to a function that
//     ends it
//   move(group, from, to, count, commit): has a member of the group read records of partition 0 of `from` and send them,
//     with their offsets, to partition 0 of `to` in one transaction; resolves to their values
//   committed(group, topic): the group's offset of partition 0, or -1
//   fenced(error): whether it is the client's error for a producer that was replaced
//   aborts(turn): which of nine transactions are aborted, where it does not take every third
// }
'use strict'

const assert = require('node:assert')
const { check, eventually, sleep } = require('./check.cjs')

const values = (turn, count) => Array.from({ length: count }, (_, n) => `${turn}${n}`)

// Expects these values, in this order, and nothing more within half a second.
async function read (client, topic, committed, wanted) {
  const found = [[], []]
  const end = await client.follow(topic, committed, (partition, value) => found[partition].push(value))
  try {
    await eventually('all that is to be read', 20, () => wanted.every((all, p) => found[p].length >= all.length))
    await sleep(500)
  } finally {
    await end()
    assert.deepStrictEqual(found, wanted)
  }
}

async function commitsAndAborts (client) {
  const topic = await client.create('committed')
  const producer = await client.open(topic)
  const committed = [[], []]
  const all = [[], []]
  for (let turn = 0; turn < 9; turn++) {
    const aborts = client.aborts ? client.aborts(turn) : turn % 3 === 1
    await producer.begin()
    for (const partition of [0, 1]) {
      const sent = values(`${turn}-`, 10)
      await producer.send(topic, partition, sent)
      all[partition].push(...sent)
      if (!aborts) committed[partition].push(...sent)
    }
    await (aborts ? producer.abort() : producer.commit())
  }
  await producer.begin()
  for (const partition of [0, 1]) {
    await producer.send(topic, partition, ['open'])
    all[partition].push('open')
  }
  await read(client, topic, true, committed)
  await read(client, topic, false, all)
  await producer.abort()
  await producer.close()
}

async function offsets (client) {
  const from = await client.create('from')
  const to = await client.create('to')
  const all = values('', 40)
  const producer = await client.open(`${from}-fills`)
  await producer.begin()
  await producer.send(from, 0, all)
  await producer.commit()
  await producer.close()
  for (const [commit, moves, after] of [[false, all.slice(0, 20), -1], [true, all.slice(0, 20), 20], [true, all.slice(20), 40]]) {
    assert.deepStrictEqual(await client.move(from, from, to, 20, commit), moves)
    // A commit is answered before its markers are written.
    await eventually(`offset ${after}`, 10, async () => await client.committed(from, from) === after)
  }
  await read(client, to, true, [all, []])
}

async function zombie (client) {
  const topic = await client.create('zombie')
  const old = await client.open(topic)
  await old.begin()
  await old.send(topic, 0, ['zombie'])
  const young = await client.open(topic)
  await young.begin()
  await assert.rejects(old.commit(), error => Boolean(client.fenced(error)) || assert.fail(error))
  await young.send(topic, 0, ['young'])
  await young.commit()
  await read(client, topic, true, [['young'], []])
  await young.close()
  await old.close().catch(() => {})
}

module.exports = async function transactions (client) {
  await check('transactions: read_committed sees what was committed in order, read_uncommitted all', () => commitsAndAborts(client))
  await check('transactions: offsets sent in one are there once it is committed, not when it is aborted', () => offsets(client))
  await check('transactions: a zombie is fenced', () => zombie(client))
}
