// kafkajs against BROKER: producers and admin, read back with kcat; consumer groups (groups.js).
'use strict'

const { execFileSync } = require('node:child_process')
const assert = require('node:assert')
const { CompressionTypes, ConfigResourceTypes, Kafka, logLevel } = require('kafkajs')
const { check, end, sleep } = require('../check.cjs')

const broker = process.env.BROKER
const run = `node-${process.pid}`

// What kcat finds in a topic, one line a record.
function read (topic, format) {
  const out = execFileSync('kcat', ['-b', broker, '-q', '-C', '-t', topic, '-e', '-o', 'beginning', '-f', format],
    { encoding: 'utf8', maxBuffer: 1 << 28, stdio: ['ignore', 'pipe', 'inherit'] })
  return out.split('\n').slice(0, -1)
}

async function withKafkajs () {
  const kafka = new Kafka({ clientId: run, brokers: [broker], logLevel: logLevel.NOTHING, retry: { retries: 5 } })
  const admin = kafka.admin()
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
  const numbers = n => Array.from({ length: n }, (_, i) => ({ value: String(i) }))

  for (const [name, options] of Object.entries({
    'acks all': { acks: -1 }, 'acks 1': { acks: 1 }, 'acks 0': { acks: 0 }, gzip: { compression: CompressionTypes.GZIP }
  })) {
    await check(`kafkajs: a producer, ${name}`, async () => {
      const topic = await create(name.replace(' ', '-'))
      await produce(topic, numbers(2000), {}, options)
      await sleep(options.acks === 0 ? 500 : 0)
      assert.deepStrictEqual(read(topic, '%s\n'), numbers(2000).map(m => m.value))
    })
  }
  await check('kafkajs: an idempotent producer', async () => {
    const topic = await create('idempotent')
    await produce(topic, numbers(2000), { idempotent: true, maxInFlightRequests: 1 })
    assert.strictEqual(read(topic, '%s\n').length, 2000)
  })
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
  await admin.disconnect()
}

async function main () {
  await withKafkajs()
  await require('./groups')(run)
  end()
}

main().catch(error => {
  console.log(error)
  process.exit(1)
})
