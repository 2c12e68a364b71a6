// A run on the compiled package (on ts-node, the compiler's heap would be measured). Prints, for step 20 and step 200 and
// after a garbage collection each, the resident bytes and the bytes in use in V8's heap. node --expose-gc memory-child.js FOLDER
'use strict';
const { writeShapes } = require('../../dist/lib/data');
const { pretrain } = require('../../dist/lib/train');

async function main(folder) {
  const data = `${folder}/pictures`;
  await writeShapes(data, { count: 128, testCount: 24 });
  const measured = {};
  const report = (event) => {
    if (event.type !== 'step' || (event.step !== 20 && event.step !== 200)) return;
    global.gc();
    const { rss, heapUsed } = process.memoryUsage();
    measured[event.step] = { rss, heapUsed };
  };
  const settings = { data, batch: 32, queue: 512, epochs: 50, slowStart: 0, evalEvery: 0, checkpointEvery: 100 };
  await pretrain({ ...settings, device: 'cpu' }, { out: `${folder}/run`, report });
  process.stdout.write(JSON.stringify(measured));
}

void main(process.argv[2]);
