// Prints the resident memory at step 20 and at step 200: ts-node bench/resident-memory.ts FOLDER (an empty one).
// A run of usual size: in a tiny one, the 10 MB by which V8's own heap grows at first would be what is measured.
import { writeShapes } from '../lib/data';
import { pretrain } from '../lib/train';

async function main(folder: string): Promise<void> {
  const data = `${folder}/pictures`;
  await writeShapes(data, { count: 128, testCount: 24 });
  const resident = new Map<number, number>();
  await pretrain(
    { data, batch: 64, queue: 512, epochs: 100, slowStart: 0, evalEvery: 0, checkpointEvery: 100 },
    {
      out: `${folder}/run`,
      report: (event) => {
        if (event.type === 'progress') resident.set(event.step, process.memoryUsage.rss());
      },
    },
  );
  console.log(JSON.stringify([resident.get(20), resident.get(200)]));
}

void main(process.argv[2]);
