// Run by resident-memory.test.ts in a process of its own: prints the resident memory at step 20 and at step 200.
import { pretrain } from '../../lib/train';
import { tinySettings } from './tiny-run';

const [data, out] = process.argv.slice(2);
const resident = new Map<number, number>();
void pretrain(
  { ...tinySettings(data), epochs: 70, slowStart: 0, evalEvery: 0, checkpointEvery: 70 },
  {
    out,
    report: (event) => {
      if (event.type === 'progress') resident.set(event.step, process.memoryUsage.rss());
    },
  },
).then(() => console.log(JSON.stringify([resident.get(20), resident.get(200)])));
