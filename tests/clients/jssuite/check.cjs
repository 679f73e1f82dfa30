// What the suites of JavaScript clients share: cases that are counted.
'use strict'

let passed = 0
let failed = 0

const sleep = ms => new Promise(resolve => setTimeout(resolve, ms))

async function eventually (what, seconds, holds) {
  const end = Date.now() + seconds * 1000
  while (!await holds()) {
    if (Date.now() > end) throw new Error(`${what}: not within ${seconds} s`)
    await sleep(50)
  }
}

// Runs one case within a minute and counts it.
async function check (what, body) {
  let timer
  const late = new Promise((_resolve, reject) => { timer = setTimeout(() => reject(new Error('took over a minute')), 60000) })
  try {
    await Promise.race([body(), late])
    passed++
    console.log(`  ok: ${what}`)
  } catch (error) {
    failed++
    const causes = (error.errors ?? []).map(e => e.message)
    console.log(`  FAILED: ${what}\n      ${[error.stack || error, ...causes].join('; ')}`)
  } finally {
    clearTimeout(timer)
  }
}

// Prints the counts and ends the process.
function end () {
  console.log(`${passed} passed, ${failed} failed`)
  process.exit(failed > 0 ? 1 : 0)
}

module.exports = { check, end, eventually, sleep }
