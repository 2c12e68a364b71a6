// Ends by process.exit() in the middle of convolutions, each of its own shape, so that primitives are being made too.
import { conv2d, randn } from '../../lib/tensor';

const x = randn([16, 32, 64, 64], { seed: 1 });
const w = randn([64, 32, 3, 3], { seed: 2 });
for (let i = 0; i < 200; i++) {
  const outChannels = 16 * (1 + (i % 4));
  conv2d(x, w, { outChannels, stride: 2, padding: 1 + (i % 3) }).dispose();
}
setTimeout(() => process.exit(7), 100 * Math.random());
