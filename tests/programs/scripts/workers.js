// Worker threads, the thread pool behind the event loop, compression; prints what they came to.
const { Worker, isMainThread, parentPort, workerData } = require('worker_threads');
const crypto = require('crypto');
const zlib = require('zlib');

if (isMainThread) {
  const results = [];
  let working = 4;
  for (let number = 0; number < 4; number++) {
    const worker = new Worker(__filename, { workerData: number });
    worker.on('message', (result) => { results[number] = result; });
    worker.on('exit', (code) => {
      if (code !== 0) console.log('ended with', code);
      if (--working === 0) derive(results);
    });
  }
} else {
  const hash = crypto.createHash('sha256');
  let state = 0;
  for (let i = 0; i < 1e8; i++) state = (state * 31 + i * workerData) % 1000003;
  for (let i = 0; i < 2000; i++) hash.update('x' + i + state);
  parentPort.postMessage(hash.digest('hex'));
}

function derive(results) {
  console.log(results.join('\n'));
  let left = 40;
  for (let number = 0; number < 40; number++) {
    crypto.pbkdf2('password', 'salt' + number, 40000, 32, 'sha256', (error, key) => {
      results[number] = key.toString('hex');
      if (--left > 0) return;
      console.log(results.join(','));
      zlib.deflate(Buffer.from('abc'.repeat(1e6)), (_, bytes) => {
        console.log(bytes.length, crypto.createHash('sha1').update(bytes).digest('hex'));
      });
    });
  }
}
