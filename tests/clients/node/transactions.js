// What jssuite's transactions need of kafkajs.
'use strict'

const { eventually } = require('../jssuite/check.cjs')

module.exports = (kafka, create, admin) => {
  const producer = async id => {
    const opened = kafka.producer({ transactionalId: id, idempotent: true, maxInFlightRequests: 1 })
    await opened.connect()
    return opened
  }
  const messages = (partition, values) => values.map(value => ({ partition, value }))
  const consume = async (topic, groupId, options, eachMessage) => {
    const consumer = kafka.consumer({ groupId, sessionTimeout: 6000, heartbeatInterval: 500, maxWaitTimeInMs: 200, ...options })
    await consumer.connect()
    await consumer.subscribe({ topics: [topic], fromBeginning: true })
    await consumer.run({ autoCommit: false, eachMessage })
    return () => consumer.disconnect()
  }
  return {
    create: name => create(`transactions-${name}`, 2),
    async open (id) {
      const opened = await producer(id)
      let transaction
      return {
        begin: async () => { transaction = await opened.transaction() },
        send: (topic, partition, values) => transaction.send({ topic, messages: messages(partition, values) }),
        commit: () => transaction.commit(),
        abort: () => transaction.abort(),
        close: () => opened.disconnect()
      }
    },
    follow: (topic, committed, each) => consume(topic, `${topic}-${committed}`, { readUncommitted: !committed },
      async ({ partition, message }) => each(partition, message.value.toString())),
    async move (group, from, to, count, commit) {
      const values = []
      const leave = await consume(from, group, {}, async ({ message }) => values.push(message.value.toString()))
      await eventually(`${count} records`, 20, () => values.length >= count)
      await leave()
      const moved = values.slice(0, count)
      const next = moved.length + Math.max(0, await this.committed(group, from))
      const opened = await producer(group)
      const transaction = await opened.transaction()
      await transaction.send({ topic: to, messages: messages(0, moved) })
      await transaction.sendOffsets({ consumerGroupId: group, topics: [{ topic: from, partitions: [{ partition: 0, offset: String(next) }] }] })
      await (commit ? transaction.commit() : transaction.abort())
      await opened.disconnect()
      return moved
    },
    async committed (group, topic) {
      const [{ partitions }] = await admin.fetchOffsets({ groupId: group, topics: [topic] })
      return Number(partitions.find(({ partition }) => partition === 0).offset)
    },
    fenced: error => [error, error.cause].some(e => ['PRODUCER_FENCED', 'INVALID_PRODUCER_EPOCH'].includes(e?.type))
  }
}
