// Worker threads that use the addon at once and end in every way; run by worker.test.ts in a process of its own.
// Prints a JSON line, then exits with work queued.
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { native } from '../../lib/native';
import type { NativeTensor } from '../../lib/native-addon';

const addon = process.env['SLIMCLR_ADDON'] || join(__dirname, '../../build/Release/slimclr.node');
const start = (task: string, tensor?: unknown): Worker =>
  new Worker(join(__dirname, 'worker-thread.js'), { workerData: { addon, task, tensor } });
const message = (worker: Worker): Promise<unknown> =>
  new Promise((resolve, reject) => worker.once('message', resolve).once('error', reject));
const exit = (worker: Worker): Promise<number> => new Promise((resolve) => worker.once('exit', resolve));

/** What a worker's `compute` does, here. */
async function compute(): Promise<string> {
  const x = native.randn([8, 16, 32, 32], 1, 0, 0, 0, 1, 'cpu');
  const w = native.randn([16, 16, 3, 3], 2, 0, 0, 0, 1, 'cpu');
  const y = native.conv2d(x, w, 16, 16, 1, 1);
  const data = await native.read(y);
  for (const t of [x, w, y]) t.dispose();
  return Buffer.from(data.buffer as ArrayBuffer).toString('base64');
}

async function terminated(task: string): Promise<void> {
  const worker = start(task);
  await message(worker);
  await worker.terminate();
}

async function main(): Promise<void> {
  const expected = await compute();
  const before = native.memoryStats('cpu');

  const together = await Promise.all(['compute', 'compute', 'compute'].map((task) => message(start(task))));
  for (let round = 0; round < 4; round++) await Promise.all(['busy', 'replays', 'loop', 'record'].map(terminated));
  const exitCode = await exit(start('exit'));
  const thrower = start('throw');
  const thrown = await Promise.all([message(thrower).catch((e: Error) => e.message), exit(thrower)]);

  const handle: NativeTensor = native.zeros([2], 'float32', 'cpu');
  let sent: unknown;
  try {
    sent = await message(start('use', handle));
  } catch (error) {
    sent = (error as Error).message;
  }
  handle.dispose();

  const after = native.memoryStats('cpu');
  const outcome = {
    same: together.map((bits) => bits === expected),
    exitCode,
    thrown,
    sent,
    leaked: after.tensors - before.tensors,
    still: (await compute()) === expected,
  };
  console.log(JSON.stringify(outcome));
  void compute();
  start('busy');
  setTimeout(() => process.exit(0), 50);
}

void main();
