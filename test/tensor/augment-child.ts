// Prints the instruction set and a digest of augmented pictures, raw and normalised.
// node -r ts-node/register augment-child.ts
import { createHash } from 'node:crypto';
import { augment, augmentParams, augmentRaw, deviceInfo, scope, tensor, zeros } from '../../lib/tensor';
import { numbers } from './gradient-check';

const [n, side] = [32, 33];
const each = 3 * side * side;
const digest = createHash('sha256');
scope(() => {
  const pixels = tensor(
    Uint8Array.from(numbers(n * each, 1), (v) => Math.floor(128 * (v + 1))),
    [n * each],
  );
  const offsets = tensor(
    BigInt64Array.from({ length: n }, (_, i) => BigInt(i * each)),
    [n],
  );
  const sizes = tensor(new Int32Array(2 * n).fill(side), [n, 2]);
  for (const recipe of ['simclr', 'mocov3-view2'] as const) {
    const params = augmentParams(recipe, sizes, { seed: 2, offset: zeros([1], { dtype: 'int64' }) });
    const normalised = { size: 23, mean: [0.5, 0.25, 0.75], std: [0.5, 0.2, 0.1] };
    const raw = augmentRaw(pixels, offsets, sizes, params, { size: 23 });
    for (const t of [params, raw, augment(pixels, offsets, sizes, params, normalised)]) {
      const { buffer, byteOffset, byteLength } = t.dataSync();
      digest.update(new Uint8Array(buffer, byteOffset, byteLength));
    }
  }
});
process.stdout.write(`${deviceInfo('cpu').kernels} ${digest.digest('hex')}`);
