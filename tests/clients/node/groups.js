// Consumer groups with kafkajs: three members that join, leave and die, commits, administration.
'use strict'

const assert = require('node:assert')
const { check, eventually } = require('../jssuite/check.cjs')
const { groups } = require('../jssuite/groups.cjs')

const PARTITIONS = 6

// What jssuite's groups need of kafkajs.
const member = (kafka, run, admin) => ({
  async create () {
    const topic = `${run}-js-group`
    await admin.createTopics({ topics: [{ topic, numPartitions: PARTITIONS }], waitForLeaders: true })
    return topic
  },
  async produce (topic, first, count) {
    const producer = kafka.producer()
    await producer.connect()
    const messages = Array.from({ length: count }, (_, i) => ({ value: String(first + i), partition: (first + i) % PARTITIONS }))
    await producer.send({ topic, messages })
    await producer.disconnect()
  },
  async join (topic, group, say) {
    const consumer = kafka.consumer({ groupId: group, sessionTimeout: 6000, heartbeatInterval: 500, rebalanceTimeout: 10000, maxWaitTimeInMs: 200 })
    consumer.on('consumer.group_join', ({ payload }) => say(`owns ${(payload.memberAssignment[topic] ?? []).length}`))
    await consumer.connect()
    await consumer.subscribe({ topics: [topic], fromBeginning: true })
    await consumer.run({
      autoCommit: false,
      eachMessage: async ({ partition, message }) => {
        say(`got ${message.value}`)
        // A rebalance may have taken the partition meanwhile: then it is another member's to commit.
        await consumer.commitOffsets([{ topic, partition, offset: String(Number(message.offset) + 1) }]).catch(() => {})
      }
    })
    return () => consumer.disconnect()
  }
})

async function administration (admin, topic, group) {
  assert((await admin.listGroups()).groups.some(({ groupId }) => groupId === group))
  await eventually('it is empty', 10, async () => (await admin.describeGroups([group])).groups[0].state === 'Empty')
  const committed = async () => (await admin.fetchOffsets({ groupId: group, topics: [topic] }))[0].partitions
  assert.strictEqual((await committed()).reduce((sum, { offset }) => sum + Number(offset), 0), 700)
  await admin.setOffsets({ groupId: group, topic, partitions: [{ partition: 0, offset: '7' }] })
  assert.strictEqual((await committed()).find(({ partition }) => partition === 0).offset, '7')
  await admin.deleteGroups([group])
  assert(!(await admin.listGroups()).groups.some(({ groupId }) => groupId === group))
}

async function grouped (kafka, run, admin) {
  const group = `${run}-group`
  const topic = await groups(member(kafka, run, admin), group)
  await check('admin: groups and their offsets', () => administration(admin, topic, group))
}

module.exports = { grouped, member }
