// @platformatic/kafka against BROKER: every codec that this Node has with idempotence on and off, a group of three whose
// members join, leave and die, commit and resume, admin.
import assert from 'node:assert'
import { spawn } from 'node:child_process'
import { createInterface } from 'node:readline'
import zlib from 'node:zlib'
import { Admin, Consumer, Producer, stringDeserializers, stringSerializers } from '@platformatic/kafka'
import { check, end, sleep } from './check.cjs'

const broker = process.env.BROKER
const run = `platformatic-${process.pid}`
const TOPIC = 2
const SET = 0

async function eventually (what, seconds, holds) {
  const end = Date.now() + seconds * 1000
  while (!await holds()) {
    if (Date.now() > end) throw new Error(`${what}: not within ${seconds} s`)
    await sleep(50)
  }
}

const settings = more => ({ clientId: run, bootstrapBrokers: [broker], retries: 5, ...more })

async function withAdmin (body) {
  const admin = new Admin(settings({}))
  try {
    return await body(admin)
  } finally {
    await admin.close()
  }
}

async function create (name, partitions, configs = []) {
  const topic = `${run}-${name}`
  await withAdmin(async admin => {
    await admin.createTopics({ topics: [topic], partitions, replicas: 1, configs })
    await eventually(`${topic} appears`, 10, async () => (await admin.listTopics()).includes(topic))
  })
  return topic
}

// Sends the numbers from first on, round robin over the partitions.
async function produce (topic, partitions, first, count, options = {}) {
  const producer = new Producer(settings({ serializers: stringSerializers, ...options }))
  try {
    for (let at = first; at < first + count; at += 100) {
      const messages = []
      for (let n = at; n < Math.min(at + 100, first + count); n++) {
        messages.push({ topic, partition: n % partitions, key: `k${n}`, value: `${n}`, headers: { h: 'v' } })
      }
      await producer.send({ messages, acks: -1 })
    }
  } finally {
    await producer.close()
  }
}

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

  static async here (topic, group, say) {
    const member = new Member()
    say ??= line => member.hear(line)
    const consumer = new Consumer(settings({
      groupId: group, deserializers: stringDeserializers, sessionTimeout: 6000, heartbeatInterval: 500, rebalanceTimeout: 10000
    }))
    const own = () => {
      const mine = (consumer.assignments ?? []).find(a => a.topic === topic)
      say(`owns ${mine ? mine.partitions.length : 0}`)
    }
    consumer.on('consumer:group:join', own)
    member.stream = await consumer.consume({ topics: [topic], mode: 'committed', fallbackMode: 'earliest', autocommit: false, maxWaitTime: 200 })
    own()
    member.stream.on('data', message => {
      assert.strictEqual(message.key, `k${message.value}`)
      say(`got ${message.value}`)
      const commit = { topic, partition: message.partition, offset: message.offset + 1n, leaderEpoch: -1 }
      // A rebalance may have taken the partition meanwhile: then it is another member's to commit.
      member.commits = (member.commits ?? Promise.resolve()).then(() => consumer.commit({ offsets: [commit] })).catch(() => {})
    })
    member.stream.on('error', error => say(`error ${error.message}`))
    member.leave = async () => {
      await member.commits
      await member.stream.close()
      await consumer.close(true)
    }
    return member
  }

  static apart (topic, group) {
    const member = new Member()
    member.process = spawn(process.execPath, ['--no-warnings', process.argv[1], topic, group], { stdio: ['ignore', 'pipe', 'inherit'] })
    createInterface({ input: member.process.stdout }).on('line', line => member.hear(line))
    process.on('exit', () => member.process.kill('SIGKILL'))
    return member
  }
}

async function producers () {
  const codecs = ['none', 'gzip', 'snappy', 'lz4', ...(zlib.zstdCompressSync ? ['zstd'] : [])]
  for (const compression of codecs) {
    for (const idempotent of [true, false]) {
      await check(`codec ${compression}, idempotent ${idempotent}`, async () => {
        const topic = await create(`${compression}-${idempotent}`, 2)
        await produce(topic, 2, 0, 500, { compression, idempotent })
        const reader = await Member.here(topic, `${topic}-reader`)
        await eventually('500 records', 20, () => reader.got.size === 500)
        await reader.leave()
      })
    }
  }
}

async function groups () {
  const group = `${run}-group`
  const topic = await create('group', 6)
  const all = (...members) => new Set(members.flatMap(m => [...m.got])).size
  let first, second, third
  await check('a group of three shares six partitions', async () => {
    first = await Member.here(topic, group)
    second = await Member.here(topic, group)
    third = Member.apart(topic, group)
    await eventually('two partitions each', 30, () => [first, second, third].every(m => m.owned === 2))
    await produce(topic, 6, 0, 300)
    await eventually('300 records', 20, () => all(first, second, third) === 300)
  })
  await check('a member that dies is replaced', async () => {
    third.process.kill('SIGKILL')
    await eventually('three partitions each', 30, () => first.owned === 3 && second.owned === 3)
    await produce(topic, 6, 300, 300)
    await eventually('600 records', 20, () => all(first, second, third) === 600)
  })
  await check('a member that leaves is replaced at once', async () => {
    await second.leave()
    await eventually('six partitions', 5, () => first.owned === 6)
  })
  await check('a group resumes where it committed', async () => {
    await first.leave()
    await produce(topic, 6, 600, 100)
    const again = await Member.here(topic, group)
    await eventually('100 records', 20, () => again.count >= 100)
    await sleep(300)
    assert.strictEqual(again.count, 100)
    await again.leave()
  })
  await check('admin: groups and their offsets', () => withAdmin(async admin => {
    assert((await admin.listGroups()).has(group))
    const described = (await admin.describeGroups({ groups: [group] })).get(group)
    assert.strictEqual(described.state, 'EMPTY')
    const [offsets] = await admin.listConsumerGroupOffsets({ groups: [group] })
    const sum = offsets.topics[0].partitions.reduce((n, p) => n + p.committedOffset, 0n)
    assert.strictEqual(sum, 700n)
    await admin.deleteGroups({ groups: [group] })
    assert(!(await admin.listGroups()).has(group))
  }))
}

async function administration () {
  await check('admin: topics, partitions, configs, records', () => withAdmin(async admin => {
    const topic = await create('admin', 2, [{ name: 'retention.ms', value: '100000' }])
    await admin.createPartitions({ topics: [{ name: topic, count: 4 }] })
    await admin.incrementalAlterConfigs({
      resources: [{ resourceType: TOPIC, resourceName: topic, configs: [{ name: 'retention.ms', configOperation: SET, value: '200000' }] }]
    })
    await eventually('the config is told', 5, async () => {
      const [found] = await admin.describeConfigs({ resources: [{ resourceType: TOPIC, resourceName: topic, configurationKeys: ['retention.ms'] }] })
      return found.configs[0].value === '200000'
    })
    await produce(topic, 1, 0, 100)
    const [deleted] = await admin.deleteRecords({ topics: [{ name: topic, partitions: [{ partition: 0, offset: 40n }] }] })
    assert.strictEqual(deleted.partitions[0].lowWatermark, 40n)
    const [listed] = await admin.listOffsets({ topics: [{ name: topic, partitions: [{ partitionIndex: 0, timestamp: -2n }] }] })
    assert.strictEqual(listed.partitions[0].offset, 40n)
    const [dirs] = await admin.describeLogDirs({ topics: [{ name: topic, partitions: [0, 1] }] })
    assert.strictEqual(dirs.results.length, 1)
    await admin.deleteTopics({ topics: [topic] })
    await eventually('it is gone', 5, async () => !(await admin.listTopics()).includes(topic))
  }))
  await check('admin: quotas', () => withAdmin(async admin => {
    const entities = [{ entityType: 'client-id', entityName: `${run}-limited` }]
    await admin.alterClientQuotas({ entries: [{ entities, ops: [{ key: 'producer_byte_rate', value: 1e9, remove: false }] }] })
    await eventually('the quota is told', 5, async () => {
      const found = await admin.describeClientQuotas({ components: [{ entityType: 'client-id', matchType: 0, match: `${run}-limited` }] })
      return found.length === 1 && found[0].values[0].value === 1e9
    })
    await admin.alterClientQuotas({ entries: [{ entities, ops: [{ key: 'producer_byte_rate', remove: true }] }] })
  }))
}

if (process.argv.length === 4) {
  await Member.here(process.argv[2], process.argv[3], line => console.log(line))
} else {
  await producers()
  await groups()
  await administration()
  end()
}
