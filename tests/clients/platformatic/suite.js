// @platformatic/kafka against BROKER: every codec that this Node has with idempotence on and off, a group of three whose
// members join, leave and die, commit and resume, transactions, admin.
import assert from 'node:assert'
import zlib from 'node:zlib'
import { Admin, Consumer, FetchIsolationLevels, Producer, stringDeserializers, stringSerializers } from '@platformatic/kafka'
import { check, end, eventually } from './check.cjs'
import { asMember, groups } from './groups.cjs'
import transactions from './transactions.cjs'

const broker = process.env.BROKER
const run = `platformatic-${process.pid}`
const TOPIC = 2
const SET = 0

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

// Reads a topic from where the group is, or from its beginning; each message goes to `each`.
async function consume (topic, groupId, each, options = {}) {
  const consumer = new Consumer(settings({
    groupId, deserializers: stringDeserializers, sessionTimeout: 6000, heartbeatInterval: 500, rebalanceTimeout: 10000, ...options
  }))
  const stream = await consumer.consume({ topics: [topic], mode: 'committed', fallbackMode: 'earliest', autocommit: false, maxWaitTime: 200 })
  stream.on('data', each)
  const leave = async () => {
    await stream.close()
    await consumer.close(true)
  }
  return { consumer, stream, leave }
}

async function join (topic, group, say) {
  let commits = Promise.resolve()
  let consumer
  const joined = await consume(topic, group, message => {
    assert.strictEqual(message.key, `k${message.value}`)
    say(`got ${message.value}`)
    const commit = { topic, partition: message.partition, offset: message.offset + 1n, leaderEpoch: -1 }
    // A rebalance may have taken the partition meanwhile: then it is another member's to commit.
    commits = commits.then(() => consumer.commit({ offsets: [commit] })).catch(() => {})
  })
  consumer = joined.consumer
  const own = () => {
    const mine = (consumer.assignments ?? []).find(a => a.topic === topic)
    say(`owns ${mine ? mine.partitions.length : 0}`)
  }
  consumer.on('consumer:group:join', own)
  own()
  joined.stream.on('error', error => say(`error ${error.message}`))
  return async () => {
    await commits
    await joined.leave()
  }
}

async function producers () {
  const codecs = ['none', 'gzip', 'snappy', 'lz4', ...(zlib.zstdCompressSync ? ['zstd'] : [])]
  for (const compression of codecs) {
    for (const idempotent of [true, false]) {
      await check(`codec ${compression}, idempotent ${idempotent}`, async () => {
        const topic = await create(`${compression}-${idempotent}`, 2)
        await produce(topic, 2, 0, 500, { compression, idempotent })
        const got = new Set()
        const reader = await consume(topic, `${topic}-reader`, message => got.add(message.value))
        await eventually('500 records', 20, () => got.size === 500)
        await reader.leave()
      })
    }
  }
}

const member = {
  create: () => create('group', 6),
  produce: (topic, first, count) => produce(topic, 6, first, count),
  join
}

async function grouped () {
  const group = `${run}-group`
  await groups(member, group)
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

// Ids of -1 ask for the next epoch of this transactional id, whatever it was.
const transactionalProducer = transactionalId => new Producer(settings({
  serializers: stringSerializers, idempotent: true, transactionalId, producerId: -1n, producerEpoch: -1
}))

const transactional = {
  create: name => create(`transactions-${name}`, 2),
  async open (id) {
    const producer = transactionalProducer(id)
    let transaction
    return {
      begin: async () => { transaction = await producer.beginTransaction() },
      send: (topic, partition, values) => transaction.send({ messages: values.map(value => ({ topic, partition, value })), acks: -1 }),
      commit: () => transaction.commit(),
      abort: () => transaction.abort(),
      close: () => producer.close()
    }
  },
  async follow (topic, committed, each) {
    const isolationLevel = FetchIsolationLevels[committed ? 'READ_COMMITTED' : 'READ_UNCOMMITTED']
    const reader = await consume(topic, `${topic}-${isolationLevel}`, message => each(message.partition, message.value), { isolationLevel })
    return reader.leave
  },
  async move (group, from, to, count, commit) {
    const messages = []
    const member = await consume(from, group, message => messages.push(message))
    await eventually(`${count} records`, 20, () => messages.length >= count)
    const moved = messages.slice(0, count)
    const producer = transactionalProducer(group)
    const transaction = await producer.beginTransaction()
    await transaction.send({ messages: moved.map(({ value }) => ({ topic: to, partition: 0, value })), acks: -1 })
    await transaction.addConsumer(member.consumer)
    await transaction.addOffset(moved.at(-1))
    await (commit ? transaction.commit() : transaction.abort())
    await producer.close()
    await member.leave()
    return moved.map(({ value }) => value)
  },
  committed: (group, topic) => withAdmin(async admin => {
    const [offsets] = await admin.listConsumerGroupOffsets({ groups: [{ groupId: group, topics: [{ name: topic, partitionIndexes: [0] }] }] })
    return Number(offsets.topics[0].partitions[0].committedOffset)
  }),
  // Of a producer's aborted transactions in one answer it leaves out only the last, whatever the broker.
  aborts: turn => turn === 4,
  fenced: error => error.findBy('apiId', 'PRODUCER_FENCED') ?? error.findBy('apiId', 'INVALID_PRODUCER_EPOCH')
}

if (!await asMember(member)) {
  await producers()
  await grouped()
  await transactions(transactional)
  await administration()
  end()
}
