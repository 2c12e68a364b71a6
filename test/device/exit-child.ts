// Ends with work queued on a CUDA device and nothing disposed of; run by exit.device.ts in a process of its own.
// node -r ts-node/register exit-child.ts exit|end|throw|worker
import { isMainThread, parentPort, Worker } from 'node:worker_threads';
import { conv2d, randn, record } from '../../lib/tensor';
import { device } from './compare';

function work(): void {
  const x = randn([4, 8, 16, 16], { seed: 1, device });
  const w = randn([8, 8, 3, 3], { seed: 2, device });
  const convolve = (): void => {
    for (let i = 0; i < 20; i++) conv2d(x, w, { padding: 1 }).dispose();
  };
  convolve();
  const recording = record(convolve, device);
  for (let i = 0; i < 50; i++) recording.replay();
}

work();
if (!isMainThread) {
  parentPort!.postMessage('busy');
  setInterval(work, 10);
} else if (process.argv[2] === 'exit') {
  process.exit(7);
} else if (process.argv[2] === 'throw') {
  throw new Error('thrown');
} else if (process.argv[2] === 'worker') {
  const worker = new Worker(__filename);
  worker.once('message', () => void worker.terminate().then(work));
}
