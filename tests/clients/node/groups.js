// Consumer groups with kafkajs: three members that join, leave and die, commits, administration.
'use strict'

const assert = require('node:assert')
const { Kafka, logLevel } = require('kafkajs')
const { check, sleep } = require('../check.cjs')

const PARTITIONS = 6

module.exports = async function groups (run) {
  const kafka = new Kafka({ clientId: run, brokers: [process.env.BROKER], logLevel: logLevel.NOTHING, retry: { retries: 8 } })
  const admin = kafka.admin()
  await admin.connect()

  const fill = async (name, each = 20) => {
    const topic = `${run}-js-${name}`
    await admin.createTopics({ topics: [{ topic, numPartitions: PARTITIONS }], waitForLeaders: true })
    const producer = kafka.producer()
    await producer.connect()
    const messages = Array.from({ length: PARTITIONS * each }, (_, i) => ({ value: String(i), partition: i % PARTITIONS }))
    await producer.send({ topic, messages })
    await producer.disconnect()
    return topic
  }
  const join = async (group, seen) => {
    const consumer = kafka.consumer({ groupId: group, sessionTimeout: 6000, heartbeatInterval: 500, rebalanceTimeout: 10000 })
    await consumer.connect()
    await consumer.subscribe({ topics: [group], fromBeginning: true })
    await consumer.run({ autoCommit: false, eachMessage: async ({ message }) => { seen.add(message.value.toString()) } })
    return consumer
  }
  const settle = async (group, members) => {
    let last
    for (let i = 0; i < 400; i++) {
      const { groups: [described] } = await admin.describeGroups([group])
      last = `${described.state}, ${described.members.length} members`
      const assigned = described.members.every(member => member.memberAssignment.length > 0)
      if (described.state === 'Stable' && described.members.length === members && assigned) return
      await sleep(100)
    }
    throw new Error(`not settled: ${last}`)
  }

  await check('kafkajs: a group of three, one leaves', async () => {
    const topic = await fill('three')
    const seen = new Set()
    const members = [await join(topic, seen)]
    await settle(topic, 1)
    members.push(...await Promise.all([join(topic, seen), join(topic, seen)]))
    await settle(topic, 3)
    await members.pop().disconnect()
    await settle(topic, 2)
    for (let i = 0; i < 200 && seen.size < PARTITIONS * 20; i++) await sleep(100)
    assert.strictEqual(seen.size, PARTITIONS * 20)
    await Promise.all(members.map(member => member.disconnect()))
  })
  await check('kafkajs: commits, and the next member goes on from there', async () => {
    const topic = await fill('resume')
    const seen = []
    for (const want of [30, PARTITIONS * 20]) {
      const consumer = kafka.consumer({ groupId: topic, sessionTimeout: 6000, heartbeatInterval: 500 })
      await consumer.connect()
      await consumer.subscribe({ topics: [topic], fromBeginning: true })
      await new Promise((resolve, reject) => {
        consumer.on('consumer.crash', event => reject(event.payload.error))
        consumer.run({
          autoCommit: false,
          eachBatchAutoResolve: false,
          eachMessage: async ({ partition, message }) => {
            if (seen.length >= want) return
            seen.push(Number(message.value.toString()))
            await consumer.commitOffsets([{ topic, partition, offset: String(Number(message.offset) + 1) }])
            if (seen.length === want) resolve()
          }
        }).catch(reject)
      })
      await consumer.disconnect()
    }
    assert.deepStrictEqual(seen.sort((a, b) => a - b), Array.from({ length: PARTITIONS * 20 }, (_, i) => i))
  })
  await check('kafkajs: admin, groups and their offsets', async () => {
    const topic = await fill('group-admin')
    const consumer = await join(topic, new Set())
    await settle(topic, 1)
    assert((await admin.listGroups()).groups.some(group => group.groupId === topic))
    await consumer.disconnect()
    for (let i = 0; i < 100; i++) {
      if ((await admin.describeGroups([topic])).groups[0].state === 'Empty') break
      await sleep(100)
    }
    await admin.setOffsets({ groupId: topic, topic, partitions: [{ partition: 0, offset: '7' }] })
    const [offsets] = await admin.fetchOffsets({ groupId: topic, topics: [topic] })
    assert.strictEqual(offsets.partitions.find(p => p.partition === 0).offset, '7')
    await admin.resetOffsets({ groupId: topic, topic, earliest: true })
    await admin.deleteGroups([topic])
    assert(!(await admin.listGroups()).groups.some(group => group.groupId === topic))
  })
  await admin.disconnect()
}
