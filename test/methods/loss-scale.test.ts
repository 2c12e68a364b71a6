import { expect } from 'chai';
import { MoCoV2, MoCoV3, SimCLR, Supervised, type Method } from '../../lib/methods';
import { randn, scope, tensor } from '../../lib/tensor';

describe('a scaled loss', () => {
  const network = { arch: 'resnet20', baseWidth: 4, widths: [1, 0.5] } as const;
  const methods: Record<string, () => Method> = {
    'MoCo v2': () => new MoCoV2({ ...network, dim: 6, queueSize: 20 }),
    'MoCo v3': () => new MoCoV3({ ...network, dim: 6, mlpDim: 8 }),
    SimCLR: () => new SimCLR({ ...network, dim: 6, mlpDim: 8 }),
    supervised: () => new Supervised({ ...network, classes: 5 }),
  };

  /** Losses and all gradients of a first step. */
  function stepOf(make: () => Method, scale?: number): { losses: number[]; gradients: number[] } {
    const method = make();
    try {
      return scope(() => {
        const [x, other] = [1, 2].map((seed) => randn([4, 3, 8, 8], { seed }));
        const target = method instanceof Supervised ? tensor(Int32Array.of(0, 1, 2, 3), [4]) : other;
        const lossScale = scale === undefined ? undefined : tensor([scale], [1]);
        const { loss, perWidth } = method.step(x, target, { slim: true, lossScale });
        const numbers = (tensors: { dataSync(): ArrayLike<number | bigint> }[]) =>
          tensors.flatMap((t) => Array.from(t.dataSync(), Number));
        const grads = [...method.parameters().values()].flatMap(({ grad }) => grad ?? []);
        return { losses: numbers([loss, perWidth]), gradients: numbers(grads) };
      });
    } finally {
      method.dispose();
    }
  }

  for (const [name, make] of Object.entries(methods)) {
    it(`multiplies the gradients of ${name}, not its losses`, () => {
      const [plain, scaled] = [stepOf(make), stepOf(make, 1024)];
      expect(scaled.losses).to.deep.equal(plain.losses);
      expect(plain.gradients.some((g) => g !== 0)).to.equal(true);
      expect(scaled.gradients).to.deep.equal(plain.gradients.map((g) => g * 1024)); // a power of two: exact
    });
  }
});
