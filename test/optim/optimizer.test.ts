import { expect } from 'chai';
import { AdamW, LARS, SGD, type Optimizer } from '../../lib/optim';
import { backward, linear, randn, scope, softmaxCrossEntropy, tensor, type Tensor } from '../../lib/tensor';

describe('optimizers', () => {
  const [pictures, features, classes] = [128, 19, 5];
  const optimizers: Record<string, (parameters: Map<string, Tensor>) => Optimizer> = {
    SGD: (parameters) => new SGD(parameters),
    LARS: (parameters) => new LARS(parameters),
    AdamW: (parameters) => new AdamW(parameters, { eps: 1e-3 }),
  };

  /** Weights of a linear classifier after four steps, each on all pictures in so many parts. */
  function train(make: (typeof optimizers)[string], parts: number, clip = Infinity): Float32Array[] {
    return scope(() => {
      const weight = randn([classes, features], { seed: 1, std: 0.1 });
      const bias = randn([classes], { seed: 2, std: 0.1 });
      for (const p of [weight, bias]) p.requiresGrad = true;
      const optimizer = make(new Map(Object.entries({ weight, bias })));
      optimizer.setLearningRate(0.5);
      const x = randn([pictures, features], { seed: 3 }).dataSync() as Float32Array;
      const size = pictures / parts;
      for (let step = 0; step < 4; step++) {
        optimizer.zeroGrad();
        for (let i = 0; i < parts; i++) {
          const part = tensor(x.slice(i * size * features, (i + 1) * size * features), [size, features]);
          const labels = tensor(
            Int32Array.from({ length: size }, (_, j) => (7 * (i * size + j)) % classes),
            [size],
          );
          backward(softmaxCrossEntropy(linear(part, weight, bias), labels));
        }
        if (parts > 1) optimizer.scaleGradients(1 / parts);
        optimizer.clipGradNorm(clip);
        optimizer.step();
      }
      const result = [weight, bias].map((p) => (p.dataSync() as Float32Array).slice());
      for (const p of [weight, bias]) p.grad?.dispose();
      optimizer.dispose();
      return result;
    });
  }
  const largest = (a: Float32Array[], b: Float32Array[]) =>
    Math.max(...a.flatMap((v, i) => Array.from(v, (x, j) => Math.abs(x - b[i][j]))));

  for (const [name, make] of Object.entries(optimizers)) {
    it(`${name}: 4 x 32 pictures are 1 x 128`, () => {
      const whole = train(make, 1);
      expect(largest(train(make, 4), whole)).to.be.below(1e-5);
      expect(largest(train(make, 1, 0.01), whole)).to.be.above(1e-4);
    });

    it(`${name}: a step needs a learning rate, a finite one from 0 up`, () => {
      const weight = tensor([1, 2], [2], { requiresGrad: true });
      const optimizer = make(new Map([['weight', weight]]));
      expect(() => optimizer.step()).to.throw(Error, `[${name.toLowerCase()}] a step needs a learning rate; call`);
      for (const lr of [NaN, -1, Infinity]) {
        expect(() => optimizer.setLearningRate(lr)).to.throw(
          RangeError,
          `expected a learning rate >= 0, received ${lr}`,
        );
      }
      expect(() => optimizer.step()).to.throw(Error, 'a step needs a learning rate');
      optimizer.setLearningRate(0);
      optimizer.step();
      optimizer.dispose();
      weight.dispose();
    });
  }
});
