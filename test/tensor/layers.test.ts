import { expect } from 'chai';
import {
  add,
  backward,
  cast,
  globalAvgPool2d,
  l2Normalize,
  linear,
  maxPool2d,
  mean,
  relu,
  scale,
  scope,
  softmax,
  softmaxCrossEntropy,
  sum,
  tensor,
  type Tensor,
} from '../../lib/tensor';
import { checkGradient, input, numbers, project, random } from './gradient-check';

/** Values far from each other, so that small steps change no maximum. */
const distinct = (n: number, seed: number): Float32Array => {
  const order = Array.from(numbers(n, seed))
    .map((v, i) => [v, i] as const)
    .sort((a, b) => a[0] - b[0]);
  const out = new Float32Array(n);
  order.forEach(([, i], rank) => (out[i] = rank - n / 2 + 0.5));
  return out;
};

describe('maxPool2d', () => {
  const options = { kernelSize: 3, stride: 2, padding: 1 };
  it('takes the largest of each window', () => {
    const x = distinct(2 * 16 * 49, 1);
    const y = scope(() => maxPool2d(tensor(x, [2, 16, 7, 7]), options).dataSync());
    for (let p = 0; p < 32; p++)
      for (let a = 0; a < 4; a++)
        for (let b = 0; b < 4; b++) {
          let most = -Infinity;
          for (let r = 2 * a - 1; r <= 2 * a + 1; r++)
            for (let s = 2 * b - 1; s <= 2 * b + 1; s++)
              if (r >= 0 && s >= 0 && r < 7 && s < 7) most = Math.max(most, x[p * 49 + r * 7 + s]);
          expect(y[(p * 4 + a) * 4 + b]).equal(most);
        }
  });
  it('has its gradient', () => {
    for (const c of [3, 16]) {
      const data = distinct(2 * c * 36, 2);
      checkGradient((x) => project(maxPool2d(x, options)), [{ shape: [2, c, 6, 6], data }], { step: 0.1 });
    }
  });
  it('names what was wrong', () => {
    scope(() => {
      const x = random([1, 2, 4, 4], 1);
      expect(() => maxPool2d(x, { kernelSize: 0, stride: 1 })).throw(RangeError, /kernelSize/);
      expect(() => maxPool2d(x, { kernelSize: 2, stride: 1, padding: 2 })).throw(RangeError, /padding/);
      expect(() => maxPool2d(x, { kernelSize: 7, stride: 1 })).throw(RangeError, /at least as large/);
    });
  });
});

describe('globalAvgPool2d', () => {
  it('averages, from float32 and bfloat16', () => {
    scope(() => {
      const x = random([3, 20, 5, 4], 3);
      const data = x.dataSync();
      const y = globalAvgPool2d(x).dataSync();
      const z = globalAvgPool2d(cast(x, 'bfloat16')).dataSync();
      for (let p = 0; p < 60; p++) {
        let s = 0;
        for (let i = 0; i < 20; i++) s += Number(data[p * 20 + i]) / 20;
        expect(y[p]).closeTo(s, 1e-6);
        expect(z[p]).closeTo(s, 1e-2);
      }
    });
  });
  it('has its gradient', () => {
    checkGradient((x) => project(globalAvgPool2d(x)), [input([2, 16, 3, 3], 4)], { step: 0.1 });
  });
});

describe('linear', () => {
  it('uses a slice of the weight, with its gradients', () => {
    const options = { outFeatures: 5, inFeatures: 6 };
    checkGradient(
      (x, w, b) => project(linear(x, w, b, options)),
      [input([4, 6], 5), input([8, 10], 6), input([8], 7)],
      { step: 0.1, tolerance: 2e-3 },
    );
  });
  it('trains a bias beside a frozen weight', () => {
    checkGradient((x, b) => project(linear(x, random([5, 6], 2), b)), [input([4, 6], 5), input([5], 7)], { step: 0.1 });
    checkGradient((b) => project(linear(random([4, 6], 1), random([5, 6], 2), b)), [input([5], 7)], { step: 0.1 });
  });
  it('hands on the gradient of a weight that other ops made', () => {
    checkGradient(
      (x, w, b) => {
        const unit = l2Normalize(w);
        return project(add(linear(x, unit, scale(b, 2)), linear(scale(x, 0.5), unit, null)));
      },
      [input([4, 6], 5), input([5, 6], 6), input([5], 7)],
      { step: 1e-2, tolerance: 5e-3 },
    );
    checkGradient((w) => project(add(linear(w, w, null), w)), [input([4, 4], 6)], { tolerance: 5e-3 });
    // Also where a part of its gradient is at the same time another tensor's.
    const twice = (x: Tensor, w: Tensor, u: Tensor) => {
      const made = scale(w, 2);
      return add(sum(add(made, u)), sum(linear(x, made, null)));
    };
    checkGradient(twice, [input([4, 6], 5), input([5, 6], 6), input([5, 6], 8)], { step: 0.1 });
  });
  it('agrees with float64', () => {
    scope(() => {
      const [x, w, b] = [input([3, 7], 8), input([6, 9], 9), input([6], 10)];
      const options = { outFeatures: 4, inFeatures: 7 };
      const y = linear(tensor(x.data, x.shape), tensor(w.data, w.shape), tensor(b.data, b.shape), options).dataSync();
      for (let n = 0; n < 3; n++)
        for (let o = 0; o < 4; o++) {
          let s = b.data[o];
          for (let i = 0; i < 7; i++) s += x.data[n * 7 + i] * w.data[o * 9 + i];
          expect(y[n * 4 + o]).closeTo(s, 1e-5);
        }
    });
  });
  it('names what was wrong', () => {
    scope(() => {
      const [x, w] = [random([2, 3], 1), random([4, 5], 1)];
      expect(() => linear(x, w, null)).throw(RangeError, /\[linear\] expected x of 5 features/);
      expect(() => linear(x, w, null, { inFeatures: 6 })).throw(RangeError, /inFeatures in 1…5/);
      expect(() => linear(x, w, random([3], 1), { inFeatures: 3 })).throw(RangeError, /bias of shape \[4\]/);
      expect(() => linear(cast(x, 'bfloat16'), w, null, { inFeatures: 3 })).throw(TypeError, /x of float32/);
    });
  });
});

describe('element-wise ops and reductions', () => {
  it('have their gradients', () => {
    const away = numbers(48, 11).map((v) => (v > 0 ? v + 0.5 : v - 0.5));
    checkGradient((x) => project(relu(x)), [{ shape: [3, 16], data: away }]);
    checkGradient((a, b) => project(add(a, b)), [input([3, 4], 12), input([3, 4], 13)], { step: 0.1 });
    checkGradient((x) => project(scale(x, -2.5)), [input([3, 4], 14)], { step: 0.1 });
    checkGradient((x) => mean(x), [input([3, 5, 2], 15)], { step: 0.1 });
    checkGradient((x) => sum(add(x, scale(x, 3))), [input([7], 16)], { step: 0.1 });
  });
  it('cast rounds to bfloat16 to nearest, ties to even, and back', () => {
    scope(() => {
      const values = [1, 1.00390625, 1.01171875, -1.00390625, 3e38, 1e-40, Infinity, NaN];
      const y = cast(cast(tensor(values, [8]), 'bfloat16'), 'float32').dataSync();
      expect(Array.from(y as Float32Array).slice(0, 4)).eql([1, 1, 1.015625, -1]);
      expect(y[6]).equal(Infinity);
      expect(y[7]).deep.equal(NaN);
      expect(Array.from(cast(tensor([1, 2, 255], [3], { dtype: 'uint8' }), 'float32').dataSync() as Float32Array)).eql([
        1, 2, 255,
      ]);
      expect(() => cast(tensor([1], [1], { dtype: 'int64' }), 'float32')).throw(TypeError, /conversion/);
    });
  });
  it('name what was wrong', () => {
    scope(() => {
      expect(() => add(random([2], 1), random([3], 1))).throw(RangeError, /\[add\] expected b like a/);
      expect(() => scale(random([2], 1), NaN)).throw(RangeError, /finite factor/);
      expect(() => mean(tensor([], [0]))).throw(RangeError, /not empty/);
    });
  });
});

describe('l2Normalize', () => {
  it('makes unit rows, zero rows stay zero, with its gradient', () => {
    checkGradient((x) => project(l2Normalize(x)), [input([5, 19], 17)], { step: 1e-2, tolerance: 5e-3 });
    scope(() => {
      const y = l2Normalize(tensor([3, 4, 0, 0], [2, 2])).dataSync();
      expect(y[0]).closeTo(0.6, 1e-6);
      expect(y[1]).closeTo(0.8, 1e-6);
      expect([y[2], y[3]]).eql([0, 0]);
    });
  });
});

describe('softmaxCrossEntropy', () => {
  const labels = (values: number[]) => tensor(values, [values.length], { dtype: 'int32' });
  it('has its gradient with labels, smoothing and soft targets', () => {
    checkGradient((x) => softmaxCrossEntropy(x, labels([0, 2, 4])), [input([3, 5], 18)]);
    checkGradient((x) => softmaxCrossEntropy(x, labels([0, 2, 4]), { labelSmoothing: 0.1 }), [input([3, 5], 19)]);
    checkGradient((x) => softmaxCrossEntropy(x, softmax(random([3, 5], 20))), [input([3, 5], 21)]);
  });
  it('agrees with float64', () => {
    const x = numbers(10, 22);
    const loss = scope(() => softmaxCrossEntropy(tensor(x, [2, 5]), labels([1, 3])).dataSync()[0]);
    let expected = 0;
    [1, 3].forEach((label, n) => {
      const row = Array.from(x.slice(5 * n, 5 * n + 5));
      expected += (Math.log(row.reduce((s, v) => s + Math.exp(v), 0)) - row[label]) / 2;
    });
    expect(loss).closeTo(expected, 1e-6);
  });
  it('rejects labels out of range when the loss is read, and goes on', async () => {
    const x = random([2, 5], 23);
    const bad = softmaxCrossEntropy(x, labels([1, 5]));
    let message = '';
    await bad.item().catch((e: Error) => (message = e.message));
    expect(message).match(/\[softmaxCrossEntropy\] expected labels in 0…4, received 1 of 2 outside/);
    expect(await softmaxCrossEntropy(x, labels([1, 4])).item()).above(0);
  });
  it('names what was wrong', () => {
    scope(() => {
      const x = random([2, 5], 24);
      expect(() => softmaxCrossEntropy(x, labels([1]))).throw(RangeError, /target of shape \[2\]/);
      expect(() => softmaxCrossEntropy(x, tensor([1, 2], [2], { dtype: 'uint8' }))).throw(TypeError, /target of int32/);
      // Plain numbers are float32 unless told otherwise.
      expect(() => softmaxCrossEntropy(x, tensor([1, 2], [2]))).throw(TypeError, /int32 labels \[N\].* float32 \[2\]/);
      expect(() => softmaxCrossEntropy(x, labels([1, 2]), { labelSmoothing: 2 })).throw(RangeError, /labelSmoothing/);
    });
  });
  it('is differentiated once', () => {
    scope(() => {
      const x = random([2, 5], 25, true);
      const loss = softmaxCrossEntropy(x, labels([1, 2]));
      backward(loss);
      expect(() => backward(loss)).throw(Error, /backward\(\) ran already/);
      x.dispose();
    });
  });
});
