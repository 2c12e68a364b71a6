import { expect } from 'chai';
import { collectGarbage } from '../garbage';
import {
  add,
  backward,
  batchNorm,
  conv2d,
  full,
  getDefaultDevice,
  getNumThreads,
  keep,
  memoryStats,
  noGrad,
  relu,
  scale,
  scope,
  setDefaultDevice,
  setNumThreads,
  sum,
  synchronize,
  tensor,
  zeros,
  type Tensor,
} from '../../lib/tensor';
import { numbers, project, random } from './gradient-check';

describe('scope', () => {
  it('disposes of what was made in it, except what is returned or kept', () => {
    const made: Tensor[] = [];
    const note = (t: Tensor): Tensor => {
      made.push(t);
      return t;
    };
    const result = scope(() => {
      const [a, b, c, d] = [1, 2, 3, 4].map((v) => note(tensor([v], [1])));
      keep(d);
      return { a: a, list: [b, 7], other: c?.shape };
    });
    expect(made.map((t) => t.disposed)).eql([false, false, true, false]);
    expect(Number(result.a.dataSync()[0])).equal(1);
    for (const t of made) t.dispose();
  });

  it('hands what an inner scope returns to the outer one', () => {
    let inner: Tensor | undefined;
    scope(() => {
      inner = scope(() => tensor([1], [1]));
      expect(inner.disposed).equal(false);
    });
    expect(inner?.disposed).equal(true);
  });

  it('disposes when its function throws, and refuses asynchronous ones', async () => {
    await collectGarbage();
    const before = memoryStats().tensors;
    expect(() =>
      scope(() => {
        tensor([1], [1]);
        throw new Error('in the middle');
      }),
    ).throw('in the middle');
    expect(() => scope(() => Promise.resolve(1))).throw(TypeError, /synchronous/);
    expect(memoryStats().tensors).equal(before);
  });
});

describe('autograd', () => {
  it('adds up over backward passes, and leaves alone what asks for none', () => {
    scope(() => {
      const x = tensor([1, 2], [2], { requiresGrad: true });
      const y = tensor([3, 4], [2]);
      for (let i = 0; i < 2; i++) backward(sum(add(scale(x, 3), y)));
      expect(Array.from(x.grad?.dataSync() as Float32Array)).eql([6, 6]);
      expect(y.grad).equal(null);
      x.dispose();
    });
  });
  it('records nothing under noGrad and through detach', () => {
    scope(() => {
      const x = tensor([1, 2], [2], { requiresGrad: true });
      expect(noGrad(() => sum(x)).requiresGrad).equal(false);
      expect(relu(x.detach()).requiresGrad).equal(false);
      expect(() => {
        backward(sum(x.detach()));
      }).throw(Error, /not on the tape/);
      expect(() => {
        backward(relu(x));
      }).throw(RangeError, /scalar/);
      x.dispose();
    });
  });
});

describe('memory', () => {
  const step = (weight: Tensor): void => {
    scope(() => {
      const x = random([4, 3, 8, 8], 1);
      const bn = { weight: full([16], 1), bias: zeros([16]), runningMean: zeros([16]), runningVar: full([16], 1) };
      backward(project(batchNorm(conv2d(x, weight, { padding: 1 }), bn, { training: true, relu: true })));
    });
  };

  it('returns to its baseline after training steps and after errors', async () => {
    await collectGarbage();
    const weight = tensor(numbers(16 * 27, 2), [16, 3, 3, 3], { requiresGrad: true });
    step(weight);
    await synchronize();
    const { tensors, bytes } = memoryStats();
    for (let i = 0; i < 50; i++) {
      step(weight);
      expect(() => scope(() => conv2d(relu(random([4, 3, 8, 8], 1)), weight, { inChannels: 2 }))).throw(RangeError);
    }
    await synchronize();
    expect(memoryStats()).include({ tensors, bytes });
    weight.dispose();
  });

  it('refuses what no memory holds, and goes on', async () => {
    for (const shape of [[2 ** 40, 2 ** 20], [1e12], [-1], [1.5], [NaN], [Infinity]]) {
      expect(() => zeros(shape), String(shape)).throw(RangeError);
    }
    expect(() => zeros([250_000_000_000])).throw(RangeError, /out of memory.*smaller batch/);
    const t = zeros([2]);
    expect(Array.from((await t.data()) as Float32Array)).eql([0, 0]);
    t.dispose();
    expect(() => t.dataSync()).throw(TypeError, /disposed/);
  });
});

describe('devices', () => {
  it('say what there is', () => {
    const device = getDefaultDevice();
    expect(() => {
      setDefaultDevice('cuda:99');
    }).throw(Error, /cuda:99 cannot be used.*--device cpu/);
    expect(() => zeros([1], { device: 'tpu' })).throw(RangeError, /'cpu', 'cuda' or 'cuda:N', received 'tpu'/);
    expect(getDefaultDevice()).equal(device);
  });

  it('compute the same bits on any number of threads', () => {
    const gradient = (threads: number): string => {
      setNumThreads(threads);
      return scope(() => {
        const x = random([5, 12, 32, 32], 3);
        const w = tensor(numbers(24 * 12 * 9, 4), [24, 12, 3, 3], { requiresGrad: true });
        const bn = { weight: full([24], 1), bias: zeros([24]), runningMean: zeros([24]), runningVar: full([24], 1) };
        backward(project(batchNorm(conv2d(x, w, { padding: 1, stride: 2 }), bn, { training: true, relu: true })));
        const bits = Buffer.from((w.grad?.dataSync() as Float32Array).slice().buffer).toString('base64');
        w.dispose();
        return bits;
      });
    };
    const before = getNumThreads();
    const [one, two, three] = [1, 2, 3].map(gradient);
    setNumThreads(before);
    expect(two).equal(one);
    expect(three).equal(one);
  });
});
