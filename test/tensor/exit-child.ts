// Ends by process.exit() in the middle of many additions of one; prints how many were done by then.
// node -r ts-node/register exit-child.ts [recorded]: in one replay instead of one by one.
import { native } from '../../lib/native';
import { conv2d, full, randn, record, zeros } from '../../lib/tensor';

const [one, count] = [full([1], 1), zeros([1])];
const x = randn([16, 32, 64, 64], { seed: 1 });
const w = randn([64, 32, 3, 3], { seed: 2 });
const work = (): void => {
  for (let i = 0; i < 400; i++) {
    conv2d(x, w, { stride: 2, padding: 1 + (i % 3) }).dispose();
    native.accumulate(one.handle, count.handle);
  }
};
if (process.argv[2] === 'recorded') record(work).replay();
else work();
// Waits for what is left of the work: nothing, where the addon's own listener has dropped it.
process.on('exit', () => process.stdout.write(String(count.dataSync()[0])));
setTimeout(() => process.exit(7), 50);
