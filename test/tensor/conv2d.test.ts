import { expect } from 'chai';
import { backward, cast, conv2d, scale, scope, sum, tensor, type Tensor } from '../../lib/tensor';
import { checkGradient, input, numbers, project } from './gradient-check';

interface Case {
  n: number;
  i: number;
  o: number;
  size: [number, number];
  k: number;
  stride: number;
  padding: number;
  /** Channels of the full weight. */
  full?: [number, number];
}

/** float64 convolution with weight[:o, :i]. */
function reference(x: Float32Array, w: Float32Array, c: Case): Float64Array {
  const [h, wd] = c.size;
  const fullI = c.full?.[1] ?? c.i;
  const oh = Math.floor((h + 2 * c.padding - c.k) / c.stride) + 1;
  const ow = Math.floor((wd + 2 * c.padding - c.k) / c.stride) + 1;
  const y = new Float64Array(c.n * c.o * oh * ow);
  let at = 0;
  for (let n = 0; n < c.n; n++)
    for (let o = 0; o < c.o; o++)
      for (let a = 0; a < oh; a++)
        for (let b = 0; b < ow; b++, at++)
          for (let i = 0; i < c.i; i++)
            for (let p = 0; p < c.k; p++)
              for (let q = 0; q < c.k; q++) {
                const r = a * c.stride + p - c.padding;
                const s = b * c.stride + q - c.padding;
                if (r < 0 || s < 0 || r >= h || s >= wd) continue;
                y[at] += x[((n * c.i + i) * h + r) * wd + s] * w[((o * fullI + i) * c.k + p) * c.k + q];
              }
  return y;
}

function relativeError(actual: ArrayLike<number>, expected: ArrayLike<number>): number {
  let difference = 0;
  let norm = 0;
  for (let j = 0; j < expected.length; j++) {
    difference += (actual[j] - expected[j]) ** 2;
    norm += expected[j] ** 2;
  }
  return Math.sqrt(difference / norm);
}

const cases: [string, Case][] = [
  ['the stem, 3 to 16 channels', { n: 2, i: 3, o: 16, size: [32, 32], k: 3, stride: 1, padding: 1 }],
  ['narrow slices of a wider weight', { n: 2, i: 4, o: 12, size: [9, 7], k: 3, stride: 1, padding: 1, full: [16, 16] }],
  ['blocks of 16 channels', { n: 2, i: 32, o: 16, size: [8, 8], k: 3, stride: 1, padding: 1, full: [64, 64] }],
  // Winograd's, one, two and three blocks of channels, the last tiles cut by an odd edge.
  ['3×3 from one block to three', { n: 2, i: 16, o: 48, size: [17, 17], k: 3, stride: 1, padding: 1, full: [48, 32] }],
  ['3×3 from two blocks to two', { n: 1, i: 32, o: 32, size: [16, 9], k: 3, stride: 1, padding: 1 }],
  ['3×3 from three blocks to one', { n: 1, i: 48, o: 16, size: [19, 14], k: 3, stride: 1, padding: 1, full: [16, 64] }],
  [
    'from blocks to a narrow slice',
    { n: 1, i: 16, o: 24, size: [16, 16], k: 3, stride: 2, padding: 1, full: [32, 16] },
  ],
  ['a 1×1 shortcut of stride 2', { n: 3, i: 12, o: 24, size: [32, 32], k: 1, stride: 2, padding: 0, full: [32, 16] }],
  ['a 7×7 stem of stride 2', { n: 2, i: 3, o: 8, size: [23, 21], k: 7, stride: 2, padding: 3 }],
  ['one pixel', { n: 2, i: 6, o: 5, size: [1, 1], k: 3, stride: 1, padding: 1 }],
  ['no padding', { n: 2, i: 5, o: 7, size: [6, 11], k: 3, stride: 1, padding: 0 }],
];

describe('conv2d', () => {
  for (const [name, c] of cases) {
    const [fullO, fullI] = c.full ?? [c.o, c.i];
    const options = { outChannels: c.o, inChannels: c.i, stride: c.stride, padding: c.padding };
    const x = input([c.n, c.i, ...c.size], 3);
    const w = input([fullO, fullI, c.k, c.k], 5);

    it(`agrees with float64 on ${name}`, () => {
      const expected = reference(x.data, w.data, c);
      const actual = scope(() => conv2d(tensor(x.data, x.shape), tensor(w.data, w.shape), options).dataSync());
      expect(relativeError(actual as Float32Array, expected)).below(1e-5);
    });

    it(`agrees with float64 within bfloat16's precision on ${name}`, () => {
      const expected = reference(x.data, w.data, c);
      const y = scope(() =>
        conv2d(cast(tensor(x.data, x.shape), 'bfloat16'), tensor(w.data, w.shape), options).dataSync(),
      );
      expect(relativeError(y as Float32Array, expected)).below(1e-2);
    });

    it(`has its gradient on ${name}`, () => {
      checkGradient((a, b) => project(conv2d(a, b, options)), [x, w], { tolerance: 3e-3, step: 0.1 });
    });

    it(`has its gradient in bfloat16 on ${name}`, () => {
      const gradients = (dtype: 'float32' | 'bfloat16'): Float32Array[] =>
        scope(() => {
          const a = tensor(x.data, x.shape, { requiresGrad: true });
          const b = tensor(w.data, w.shape, { requiresGrad: true });
          backward(project(cast(conv2d(cast(a, dtype), b, options), 'float32')));
          const out = [a.grad?.dataSync() as Float32Array, b.grad?.dataSync() as Float32Array];
          a.dispose();
          b.dispose();
          return out;
        });
      const [exact, rounded] = [gradients('float32'), gradients('bfloat16')];
      expect(relativeError(rounded[0], exact[0])).below(1.5e-2);
      expect(relativeError(rounded[1], exact[1])).below(1.5e-2);
    });
  }

  it('hands on the gradient of a weight that another op made', () => {
    const f = (x: Tensor, w: Tensor) => project(conv2d(x, scale(w, 0.5), { padding: 1 }));
    checkGradient(f, [input([2, 3, 5, 4], 3), input([5, 3, 3, 3], 5)], { tolerance: 3e-3, step: 0.1 });
  });

  it('gives no gradient outside the slice, and adds where widths overlap', () => {
    scope(() => {
      const w = tensor(numbers(16 * 8 * 9, 2), [16, 8, 3, 3], { requiresGrad: true });
      const x = tensor(numbers(2 * 8 * 25, 3), [2, 8, 5, 5]);
      const narrow = tensor(numbers(2 * 4 * 25, 4), [2, 4, 5, 5]);
      const gradientOf = (...losses: (() => ReturnType<typeof sum>)[]): Float32Array => {
        for (const loss of losses) backward(loss());
        const g = Float32Array.from(w.grad?.dataSync() as Float32Array);
        w.grad?.dispose();
        w.grad = null;
        return g;
      };
      const whole = () => sum(conv2d(x, w, { padding: 1 }));
      const slice = () => sum(conv2d(narrow, w, { outChannels: 8, inChannels: 4, padding: 1 }));
      const [a, b, both] = [gradientOf(whole), gradientOf(slice), gradientOf(whole, slice)];
      for (let o = 0; o < 16; o++)
        for (let i = 0; i < 8; i++)
          for (let t = 0; t < 9; t++) {
            const at = (o * 8 + i) * 9 + t;
            if (o >= 8 || i >= 4) expect(b[at]).equal(0);
            expect(both[at]).closeTo(a[at] + b[at], 1e-4);
          }
      w.dispose();
    });
  });

  it('is deterministic', () => {
    const c = { n: 8, i: 12, o: 12, size: [32, 32] };
    const run = () =>
      scope(() => {
        const x = tensor(numbers(c.n * c.i * 1024, 7), [c.n, c.i, 32, 32]);
        const w = tensor(numbers(12 * 12 * 9, 8), [12, 12, 3, 3], { requiresGrad: true });
        backward(project(conv2d(x, w, { padding: 1 })));
        const g = Buffer.from((w.grad?.dataSync() as Float32Array).slice().buffer).toString('hex');
        w.dispose();
        return g;
      });
    expect(run()).equal(run());
  });

  it('names what was wrong', () => {
    scope(() => {
      const x = tensor(new Float32Array(2 * 3 * 16), [2, 3, 4, 4]);
      const w = tensor(new Float32Array(8 * 4 * 9), [8, 4, 3, 3]);
      expect(() => conv2d(x, w)).throw(RangeError, /\[conv2d\] expected x of 4 channels.*received \[2, 3, 4, 4\]/);
      expect(() => conv2d(x, w, { outChannels: 9 })).throw(RangeError, /outChannels in 1…8/);
      expect(() => conv2d(x, w, { inChannels: 3, stride: 0 })).throw(RangeError, /stride/);
      expect(() => conv2d(x, w, { inChannels: 3, padding: -1 })).throw(RangeError, /padding/);
      expect(() => conv2d(x, w, { inChannels: 2.5 })).throw(RangeError, /inChannels to be an integer/);
      expect(() => conv2d(x, w, { inChannels: NaN })).throw(RangeError, /inChannels to be an integer/);
      expect(() => conv2d(tensor(new Float32Array(3), [1, 3, 1, 1]), w, { inChannels: 3 })).throw(RangeError, /kernel/);
      expect(() => conv2d(tensor([1, 2], [2], { dtype: 'int32' }), w)).throw(TypeError, /4 dimensions/);
      x.dispose();
      expect(() => conv2d(x, w, { inChannels: 3 })).throw(TypeError, /disposed/);
    });
  });
});
