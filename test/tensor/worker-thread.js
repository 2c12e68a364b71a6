// A worker thread of worker-child.ts: plain JavaScript, so that it starts at once.
'use strict';
const { parentPort, workerData } = require('node:worker_threads');
const native = require(workerData.addon);

/** Convolutions on the stream, with a promise for the last. */
function enqueue(times) {
  const x = native.randn([8, 16, 32, 32], 1, 0, 0, 0, 1, 'cpu');
  const w = native.randn([16, 16, 3, 3], 2, 0, 0, 0, 1, 'cpu');
  let y = x;
  for (let i = 0; i < times; i++) y = native.conv2d(x, w, 16, 16, 1, 1);
  return native.read(y);
}

switch (workerData.task) {
  case 'compute':
    enqueue(20).then((data) => parentPort.postMessage(Buffer.from(data.buffer).toString('base64')));
    break;
  case 'busy': // terminated with work queued and promises pending
    for (let i = 0; i < 10; i++) void enqueue(50);
    parentPort.postMessage('busy');
    break;
  case 'replays': {
    // terminated with replays queued
    const x = native.randn([8, 16, 32, 32], 1, 0, 0, 0, 1, 'cpu');
    const w = native.randn([16, 16, 3, 3], 2, 0, 0, 0, 1, 'cpu');
    const recording = native.record('cpu', () => {
      for (let i = 0; i < 50; i++) native.conv2d(x, w, 16, 16, 1, 1);
    });
    for (let i = 0; i < 10; i++) native.replay(recording);
    parentPort.postMessage('busy');
    break;
  }
  case 'record': // terminated while recording
    parentPort.postMessage('busy');
    for (;;) {
      const x = native.zeros([100, 100], 'float32', 'cpu');
      const recording = native.record('cpu', () => {
        for (let i = 0; i < 50; i++) native.relu(x);
      });
      native.replay(recording);
      native.disposeRecording(recording);
      native.readSync(x);
    }
  case 'loop': // terminated inside native calls
    parentPort.postMessage('busy');
    for (;;) {
      const t = native.zeros([100, 100], 'float32', 'cpu');
      native.readSync(native.sum(t, 1));
      t.dispose();
    }
  case 'exit':
    void enqueue(50);
    process.exit(3);
    break;
  case 'throw':
    void enqueue(50);
    throw new Error('thrown in the worker');
  case 'use': // a tensor of the main thread, as far as it can be sent
    try {
      native.relu(workerData.tensor);
      parentPort.postMessage('used');
    } catch (error) {
      parentPort.postMessage(error.message);
    }
    break;
}
