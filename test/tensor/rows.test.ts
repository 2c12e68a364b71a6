import { expect } from 'chai';
import {
  backward,
  cast,
  concat,
  deviceInfo,
  indexSelect,
  memoryStats,
  randn,
  relu,
  reshape,
  scope,
  tensor,
  zeros,
} from '../../lib/tensor';
import { checkGradient, input, numbers, project, random } from './gradient-check';

const index = (...rows: number[]) => tensor(Int32Array.from(rows), [rows.length]);

describe('indexSelect', () => {
  it('takes rows in any order, repeated or not at all', () => {
    scope(() => {
      const x = tensor([0, 1, 2, 3, 4, 5], [3, 2]);
      const y = indexSelect(x, index(2, 0, 2));
      expect(y.shape).deep.equal([3, 2]);
      expect(Array.from(y.dataSync() as Float32Array)).deep.equal([4, 5, 0, 1, 4, 5]);
      expect(indexSelect(x, index()).shape).deep.equal([0, 2]);
    });
  });

  it('counts the rows through from one input to the next', () => {
    scope(() => {
      const y = indexSelect([tensor([10, 11], [2]), zeros([0]), tensor([12, 13, 14], [3])], index(4, 1, 2, 0, 3));
      expect(Array.from(y.dataSync() as Float32Array)).deep.equal([14, 11, 12, 10, 13]);
    });
  });

  it('takes pictures of every type and layout', () => {
    scope(() => {
      for (const channels of [3, 16]) {
        const pixels = numbers(4 * channels * 9, 5);
        const plain = tensor(pixels, [4, channels, 3, 3]);
        const rowsOf = (r: number) => Array.from(pixels.subarray(r * channels * 9, (r + 1) * channels * 9));
        // A cast gives the device's own layout; float32 there is the same numbers.
        for (const x of [plain, relu(cast(cast(plain, 'bfloat16'), 'float32'))]) {
          const y = Array.from(indexSelect([x, plain], index(3, 0, 5)).dataSync() as Float32Array);
          const own = Array.from(x.dataSync() as Float32Array);
          const size = channels * 9;
          const expected = [...own.slice(3 * size, 4 * size), ...own.slice(0, size), ...rowsOf(1)];
          expect(y).deep.equal(expected);
        }
      }
      const bytes = indexSelect(tensor(Uint8Array.of(1, 2, 3), [3, 1]), index(2, 1));
      expect(Array.from(bytes.dataSync() as Uint8Array)).deep.equal([3, 2]);
      const half = indexSelect(tensor([1, 2, 3], [3, 1], { dtype: 'bfloat16' }), index(2, 1));
      expect(Array.from(half.dataSync() as Float32Array)).deep.equal([3, 2]);
    });
  });

  it('gives repeated rows the sum of their gradients, and rows not taken none', () => {
    const [a, b] = [input([3, 5], 1), input([4, 5], 2)];
    checkGradient((x, y) => project(indexSelect([x, y], index(6, 0, 0, 3, 1, 6, 6, 4))), [a, b]);
    scope(() => {
      const x = random([3, 5], 3, true);
      backward(project(indexSelect(x, index(0, 0))));
      const gradient = x.grad?.dataSync() as Float32Array;
      expect(Array.from(gradient.subarray(5))).deep.equal(Array(10).fill(0));
      x.dispose();
    });
  });

  it('fails for an index outside, at the next read', async () => {
    for (const bad of [-1, 3]) {
      const y = scope(() => indexSelect(random([3, 2], 1), index(0, bad)));
      const message = await y.data().then(
        () => '',
        (error: Error) => error.message,
      );
      y.dispose();
      expect(message).match(/\[indexSelect\] expected indices of rows that there are, received 1 of 2 outside/);
    }
  });

  it('names what was wrong', () => {
    scope(() => {
      const x = random([3, 2], 1);
      expect(() => indexSelect([], index(0))).throw(RangeError, /1…1024 inputs/);
      expect(() => indexSelect([x, random([3, 3], 1)], index(0))).throw(
        RangeError,
        /alike but for the first dimension/,
      );
      expect(() => indexSelect([x, cast(x, 'bfloat16')], index(0))).throw(RangeError, /alike/);
      expect(() => indexSelect(zeros([]), index(0))).throw(TypeError, /at least 1 dimension/);
      expect(() => indexSelect(x, tensor([0], [1]))).throw(TypeError, /index of int32/);
      expect(() => indexSelect(x, tensor(Int32Array.of(0), [1, 1]))).throw(TypeError, /index of 1 dimensions/);
    });
  });
});

describe('concat', () => {
  it('puts tensors on top of each other, and parts their gradient', () => {
    scope(() => {
      const y = concat([tensor([1, 2], [1, 2]), tensor([3, 4, 5, 6], [2, 2])]);
      expect(y.shape).deep.equal([3, 2]);
      expect(Array.from(y.dataSync() as Float32Array)).deep.equal([1, 2, 3, 4, 5, 6]);
    });
    checkGradient((a, b) => project(concat([a, b])), [input([2, 7], 4), input([3, 7], 5)]);
  });
});

describe('reshape', () => {
  it('shows the same elements in another shape', () => {
    scope(() => {
      const y = reshape(tensor([1, 2, 3, 4, 5, 6], [2, 3]), [3, 2]);
      expect(y.shape).deep.equal([3, 2]);
      expect(Array.from(y.dataSync() as Float32Array)).deep.equal([1, 2, 3, 4, 5, 6]);
    });
    checkGradient((x) => project(reshape(x, [5, 6])), [input([3, 10], 6)]);
  });

  it('shares its memory', () => {
    scope(() => {
      const x = randn([4, 3], { seed: 1 });
      const before = memoryStats().bytes;
      reshape(x, [12]);
      expect(memoryStats().bytes).equal(before);
    });
  });

  it('names what was wrong', () => {
    scope(() => {
      expect(() => reshape(random([2, 3], 1), [4])).throw(RangeError, /a shape of 6 elements.*received \[4\]/);
      const activation = cast(cast(random([2, 16, 2, 2], 1), 'bfloat16'), 'float32');
      // Where the device has a layout of its own for 16 channels.
      const blocked = deviceInfo().kernels !== 'baseline';
      if (blocked) expect(() => reshape(activation, [128])).throw(TypeError, /plain layout/);
    });
  });
});
