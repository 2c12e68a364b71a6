// Run by resident-memory.test.ts in a process of its own: prints the resident memory at step 20 and at step 200 of a
// ResNet-20 as people train it (in a tiny one, the growth of V8's own heap, some 10 MB, would be what is measured).
import { join } from 'node:path';
import { writeShapes } from '../../lib/data';
import { pretrain } from '../../lib/train';

const [folder] = process.argv.slice(2);
const data = join(folder, 'pictures');
const resident = new Map<number, number>();
void writeShapes(data, { count: 128, testCount: 24, seed: 0 })
  .then(() =>
    pretrain(
      { data, epochs: 100, batch: 64, queue: 512, slowStart: 0, evalEvery: 0, checkpointEvery: 100 },
      {
        out: join(folder, 'run'),
        report: (event) => {
          if (event.type === 'progress') resident.set(event.step, process.memoryUsage.rss());
        },
      },
    ),
  )
  .then(() => {
    console.log(JSON.stringify([resident.get(20), resident.get(200)]));
  });
