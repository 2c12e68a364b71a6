import { expect } from 'chai';
import {
  add,
  batchNorm,
  cast,
  conv2d,
  full,
  scale,
  scope,
  sum,
  tensor,
  zeros,
  backward,
  type Tensor,
} from '../../lib/tensor';
import { checkGradient, input, numbers, project, random } from './gradient-check';

const parameters = (c: number) => ({
  weight: tensor(
    numbers(c, 11).map((v) => 1 + 0.5 * v),
    [c],
  ),
  bias: random([c], 12),
  runningMean: zeros([c]),
  runningVar: full([c], 1),
});

const shapes = [
  [4, 16, 6, 6],
  [3, 5, 7, 3],
  [8, 12],
  [6, 32, 1, 1],
];

describe('batchNorm', () => {
  for (const shape of shapes) {
    it(`agrees with float64 on [${shape}], statistics included`, () => {
      const c = shape[1];
      const inner = shape.slice(2).reduce((a, b) => a * b, 1);
      const x = numbers(
        shape.reduce((a, b) => a * b, 1),
        21,
      ).map((v, i) => 3 * v + (Math.floor(i / inner) % c));
      scope(() => {
        const bn = parameters(c);
        const y = batchNorm(tensor(x, shape), bn, { training: true, relu: true }).dataSync();
        const [gamma, beta] = [bn.weight.dataSync(), bn.bias.dataSync()].map((a) => a as Float32Array);
        const [mean, variance] = [bn.runningMean.dataSync(), bn.runningVar.dataSync()].map((a) => a as Float32Array);
        for (let k = 0; k < c; k++) {
          const values: [number, number][] = [];
          for (let i = 0; i < x.length; i++) if (Math.floor(i / inner) % c === k) values.push([i, x[i]]);
          const m = values.reduce((s, [, v]) => s + v, 0) / values.length;
          const v = values.reduce((s, [, u]) => s + (u - m) ** 2, 0) / values.length;
          expect(mean[k]).closeTo(0.1 * m, 1e-5 * (1 + Math.abs(m)));
          expect(variance[k]).closeTo(0.9 + (0.1 * v * values.length) / (values.length - 1), 1e-4 * (1 + v));
          for (const [i, u] of values) {
            expect(y[i]).closeTo(Math.max(0, (gamma[k] * (u - m)) / Math.sqrt(v + 1e-5) + beta[k]), 1e-4);
          }
        }
      });
    });

    for (const training of [true, false]) {
      it(`has its gradient on [${shape}], ${training ? 'training' : 'evaluation'}`, () => {
        const c = shape[1];
        checkGradient(
          (x, weight, bias) => project(batchNorm(x, { ...parameters(c), weight, bias }, { training })),
          [input(shape, 31), input([c], 32), input([c], 33)],
          { tolerance: 1e-2, step: 5e-3 },
        );
      });
    }
  }

  it('hands on the gradient of γ and β that other ops made', () => {
    checkGradient(
      (gamma, beta) => {
        const made = { weight: scale(gamma, 2), bias: scale(beta, 0.5) };
        return project(batchNorm(random([3, 5, 4, 4], 31), { ...parameters(5), ...made }, { training: true }));
      },
      [input([5], 32), input([5], 33)],
      { tolerance: 1e-2, step: 5e-3 },
    );
  });

  it('has its gradient with residual and ReLU, away from the kink', () => {
    // Inputs whose outputs stay at least 0.2 away from zero, so that differences do not cross the ReLU's kink.
    const shape = [4, 16, 4, 4];
    const residual = numbers(1024, 42).map((v) => (v > 0 ? 6 + v : -6 + v));
    checkGradient(
      (x, r) => project(batchNorm(x, parameters(16), { training: true, relu: true, residual: r })),
      [input(shape, 41), { shape, data: residual }],
      { tolerance: 1e-2, step: 5e-3 },
    );
  });

  it('adds a residual after the ReLU', () => {
    scope(() => {
      const [x, r] = [random([3, 16, 5, 5], 43), random([3, 16, 5, 5], 44)];
      const options = { training: true, relu: true };
      const sum = batchNorm(x, parameters(16), { ...options, residual: r, residualLast: true });
      expect(sum.dataSync()).to.deep.equal(add(batchNorm(x, parameters(16), options), r).dataSync());
    });
  });

  for (const shape of [
    [4, 16, 4, 4],
    [3, 5, 3, 3],
  ]) {
    it(`has its gradient with a residual after the ReLU on [${shape}], alone and with a second consumer`, () => {
      // β far from zero, so that no difference crosses the ReLU's kink, half of the channels cut.
      const bias = full([shape[1]], 0);
      bias.copyFrom(Array.from({ length: shape[1] }, (_, c) => (c % 2 ? 8 : -8)));
      const joined = (x: Tensor, r: Tensor) =>
        batchNorm(
          x,
          { ...parameters(shape[1]), bias },
          { training: true, relu: true, residual: r, residualLast: true },
        );
      const inputs = [input(shape, 45), input(shape, 46)];
      const close = { tolerance: 1e-2, step: 5e-3 };
      checkGradient((x, r) => project(joined(x, r)), inputs, close);
      checkGradient(
        (x, r) => {
          const y = joined(x, r);
          const z = batchNorm(y, parameters(shape[1]), { training: false, residual: y });
          return project(z);
        },
        inputs,
        close,
      );
      bias.dispose();
    });
  }

  it('adds the gradients of two consumers', () => {
    const weigh = (y: Tensor) => sum(conv2d(y, random([1, ...y.shape.slice(1)], 52)));
    const gradient = (twice: boolean): Float32Array =>
      scope(() => {
        const x = random([2, 16, 3, 3], 51, true);
        const y = batchNorm(x, parameters(16), { training: true, relu: true });
        const z = batchNorm(y, parameters(16), { training: true, residual: twice ? y : null });
        backward(weigh(z));
        const g = Float32Array.from(x.grad?.dataSync() as Float32Array);
        x.dispose();
        return g;
      });
    const direct = scope(() => {
      const x = random([2, 16, 3, 3], 51, true);
      const y = batchNorm(x, parameters(16), { training: true, relu: true });
      backward(weigh(y));
      const g = Float32Array.from(x.grad?.dataSync() as Float32Array);
      x.dispose();
      return g;
    });
    const [once, both] = [gradient(false), gradient(true)];
    both.forEach((v, i) => expect(v).closeTo(once[i] + direct[i], 1e-4));
  });

  it('computes in bfloat16 within its precision', () => {
    scope(() => {
      const x = random([4, 12, 5, 5], 61);
      const options = { training: true, relu: true };
      const exact = batchNorm(x, parameters(12), options).dataSync() as Float32Array;
      const rounded = batchNorm(cast(x, 'bfloat16'), parameters(12), options).dataSync() as Float32Array;
      exact.forEach((v, i) => expect(rounded[i]).closeTo(v, 0.03));
    });
  });

  it('works without affine parameters', () => {
    scope(() => {
      const y = batchNorm(random([8, 6], 71), { ...parameters(6), weight: null, bias: null }, { training: true });
      expect(Math.abs(Number(sum(y).dataSync()[0]))).below(1e-4);
    });
  });

  it('names what was wrong', () => {
    scope(() => {
      const x = random([2, 4, 3, 3], 81);
      const training = { training: true };
      expect(() => batchNorm(x, parameters(5), training)).throw(RangeError, /weight of shape \[4\]/);
      expect(() => batchNorm(x, { ...parameters(4), bias: null }, training)).throw(
        TypeError,
        /weight and bias, or neither/,
      );
      expect(() => batchNorm(random([2, 4, 3], 1), parameters(4), training)).throw(
        TypeError,
        /\[N, C\] or \[N, C, H, W\]/,
      );
      expect(() => batchNorm(x, parameters(4), { ...training, eps: -1 })).throw(RangeError, /eps/);
      expect(() => batchNorm(x, parameters(4), { ...training, residual: random([2, 4, 3, 2], 1) })).throw(
        RangeError,
        /residual/,
      );
      expect(() => batchNorm(x, parameters(4), { ...training, residual: x, residualLast: true })).throw(
        TypeError,
        /expected relu where residualLast is set/,
      );
      expect(() => batchNorm(zeros([0, 4]), parameters(4), training)).throw(RangeError, /not empty/);
    });
  });
});
