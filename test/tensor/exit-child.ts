// Ends by process.exit() in the middle of convolutions.
import { conv2d, randn } from '../../lib/tensor';

const x = randn([8, 16, 64, 64], { seed: 1 });
const w = randn([16, 16, 3, 3], { seed: 2 });
for (let i = 0; i < 300; i++) conv2d(x, w, { padding: 1 }).dispose();
setTimeout(() => process.exit(7), 20 * Math.random());
