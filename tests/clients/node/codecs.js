// The codecs that kafkajs leaves to others; resolves once they are there.
'use strict'

const { pathToFileURL } = require('node:url')
const { CompressionCodecs, CompressionTypes } = require('kafkajs')
const zstd = require('@bokuweb/zstd-wasm')

const codec = (compress, decompress) => () => ({
  compress: async encoder => Buffer.from(compress(encoder.buffer)),
  decompress: async buffer => Buffer.from(decompress(buffer))
})

module.exports = async function codecs () {
  // An ES module, which Node finds by this path only if it is told so.
  const wasm = await import(pathToFileURL(require.resolve('@platformatic/wasm-utils')))
  await zstd.init()
  CompressionCodecs[CompressionTypes.Snappy] = require('kafkajs-snappy')
  CompressionCodecs[CompressionTypes.LZ4] = codec(wasm.lz4Compress, wasm.lz4Decompress)
  CompressionCodecs[CompressionTypes.ZSTD] = codec(zstd.compress, zstd.decompress)
}
