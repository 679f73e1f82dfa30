// kafkajs against BROKER: producers and admin, read back with kcat; consumer groups (groups.js), transactions
// (transactions.js).
'use strict'

const { execFileSync } = require('node:child_process')
const assert = require('node:assert')
const { CompressionTypes, ConfigResourceTypes, Kafka, logLevel } = require('kafkajs')
const codecs = require('./codecs')
const { grouped, member } = require('./groups')
const transactional = require('./transactions')
const { check, end, sleep } = require('../jssuite/check.cjs')
const { asMember } = require('../jssuite/groups.cjs')
const transactions = require('../jssuite/transactions.cjs')

const broker = process.env.BROKER
const run = `node-${process.pid}`

// What kcat finds in a topic, one line a record.
function read (topic, format) {
  const out = execFileSync('kcat', ['-b', broker, '-q', '-C', '-t', topic, '-e', '-o', 'beginning', '-f', format],
    { encoding: 'utf8', maxBuffer: 1 << 28, stdio: ['ignore', 'pipe', 'inherit'] })
  return out.split('\n').slice(0, -1)
}

const kafka = new Kafka({ clientId: run, brokers: [broker], logLevel: logLevel.NOTHING, retry: { retries: 8 } })
const admin = kafka.admin()

async function withKafkajs () {
  await admin.connect()
  const create = async (name, numPartitions = 1, configEntries = []) => {
    const topic = `${run}-js-${name}`
    await admin.createTopics({ topics: [{ topic, numPartitions, configEntries }], waitForLeaders: true })
    return topic
  }
  const produce = async (topic, messages, settings = {}, options = {}) => {
    const producer = kafka.producer({ allowAutoTopicCreation: false, ...settings })
    await producer.connect()
    for (let i = 0; i < messages.length; i += 500) {
      await producer.send({ topic, messages: messages.slice(i, i + 500), ...options })
    }
    await producer.disconnect()
  }
  const consume = async (topic, count) => {
    const consumer = kafka.consumer({ groupId: topic, maxWaitTimeInMs: 200 })
    const got = []
    await consumer.connect()
    await consumer.subscribe({ topics: [topic], fromBeginning: true })
    await consumer.run({ autoCommit: false, eachMessage: async ({ message }) => got.push(message.value.toString()) })
    for (let i = 0; i < 200 && got.length < count; i++) await sleep(100)
    await consumer.disconnect()
    return got
  }
  const numbers = n => Array.from({ length: n }, (_, i) => ({ value: String(i) }))

  for (const [name, options] of Object.entries({ 'acks all': { acks: -1 }, 'acks 1': { acks: 1 }, 'acks 0': { acks: 0 } })) {
    await check(`kafkajs: a producer, ${name}`, async () => {
      const topic = await create(name.replace(' ', '-'))
      await produce(topic, numbers(2000), {}, options)
      await sleep(options.acks === 0 ? 500 : 0)
      assert.deepStrictEqual(read(topic, '%s\n'), numbers(2000).map(m => m.value))
    })
  }
  await codecs()
  for (const [codec, compression] of Object.entries(CompressionTypes)) {
    for (const idempotent of [true, false]) {
      await check(`kafkajs: codec ${codec}, idempotent ${idempotent}`, async () => {
        const topic = await create(`${codec}-${idempotent}`)
        await produce(topic, numbers(2000), idempotent ? { idempotent, maxInFlightRequests: 1 } : {}, { compression })
        assert.deepStrictEqual(read(topic, '%s\n'), numbers(2000).map(m => m.value))
        assert.deepStrictEqual(await consume(topic, 2000), numbers(2000).map(m => m.value))
      })
    }
  }
  await check('kafkajs: keys, headers, partitions', async () => {
    const topic = await create('fields', 3)
    await produce(topic, [0, 1, 2].map(i => ({ key: `k${i}`, value: `v${i}`, headers: { h: 'x' }, partition: i })))
    assert.deepStrictEqual(read(topic, '%p %k %s %h\n').sort(), ['0 k0 v0 h=x', '1 k1 v1 h=x', '2 k2 v2 h=x'])
  })
  await check('kafkajs: admin, topics and partitions', async () => {
    const topic = await create('admin', 2, [{ name: 'retention.ms', value: '100000' }])
    assert((await admin.listTopics()).includes(topic))
    await admin.createPartitions({ topicPartitions: [{ topic, count: 4 }] })
    let found
    for (let i = 0; i < 50; i++) {
      found = (await admin.fetchTopicMetadata({ topics: [topic] })).topics[0].partitions.length
      if (found === 4) break
      await sleep(100)
    }
    assert.strictEqual(found, 4)
    await admin.deleteTopics({ topics: [topic] })
    await sleep(500)
    assert(!(await admin.listTopics()).includes(topic))
  })
  await check('kafkajs: admin, configs', async () => {
    const topic = await create('configs', 1, [{ name: 'retention.ms', value: '100000' }])
    const resource = { type: ConfigResourceTypes.TOPIC, name: topic }
    const value = async () => {
      const described = await admin.describeConfigs({ includeSynonyms: false, resources: [resource] })
      return described.resources[0].configEntries.find(entry => entry.configName === 'retention.ms').configValue
    }
    assert.strictEqual(await value(), '100000')
    await admin.alterConfigs({ resources: [{ ...resource, configEntries: [{ name: 'retention.ms', value: '200000' }] }] })
    for (let i = 0; i < 50 && await value() !== '200000'; i++) await sleep(100)
    assert.strictEqual(await value(), '200000')
  })
  await check('kafkajs: admin, offsets and records', async () => {
    const topic = await create('offsets')
    await produce(topic, numbers(100))
    // kafkajs knows a topic's leaders only once it has asked something else about it.
    await admin.fetchTopicOffsets(topic)
    await admin.deleteTopicRecords({ topic, partitions: [{ partition: 0, offset: '40' }] })
    const [offsets] = await admin.fetchTopicOffsets(topic)
    assert.deepStrictEqual([offsets.low, offsets.high], ['40', '100'])
    const cluster = await admin.describeCluster()
    assert.strictEqual(cluster.brokers.length, 1)
  })
  await check('kafkajs: a topic made on first use', async () => {
    const topic = `${run}-js-auto`
    await produce(topic, numbers(1), { allowAutoTopicCreation: true })
    assert.deepStrictEqual(read(topic, '%s\n'), ['0'])
  })
  await grouped(kafka, run, admin)
  await transactions(transactional(kafka, create, admin))
  await admin.disconnect()
}

async function main () {
  if (await asMember(member(kafka, run, admin))) return
  await withKafkajs()
  end()
}

main().catch(error => {
  console.log(error)
  process.exit(1)
})
