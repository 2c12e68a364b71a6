import { expect } from 'chai';
import { collectGarbage } from '../garbage';
import { ARCHITECTURES, HEADS, SlimmableResNet, type Arch, type HeadKind, type ResNetOptions } from '../../lib/nn';
import { backward, memoryStats, noGrad, randn, scope, sum, type Tensor } from '../../lib/tensor';

const FOUR = [1, 0.75, 0.5, 0.25];

describe('SlimmableResNet', () => {
  const made: { dispose(): void }[] = [];
  const own = <T extends { dispose(): void }>(x: T): T => (made.push(x), x);
  afterEach(() => {
    for (const x of made.splice(0)) x.dispose();
  });

  const network = (options: Partial<ResNetOptions> = {}) =>
    own(new SlimmableResNet({ arch: 'resnet20', head: 'mocov2_slim', outDim: 8, baseWidth: 8, ...options }));
  const images = (n: number, size: number) => own(randn([n, 3, size, size], { seed: 7 }));
  const values = async (t: Tensor) => (await t.data()) as Float32Array;
  const shapes = (tensors: Map<string, Tensor>) =>
    Object.fromEntries([...tensors].map(([name, t]) => [name, t.shape.join('x')]));

  describe('names and shapes', () => {
    it('are those of the released checkpoints: basic blocks, CIFAR stem', () => {
      const parameters = shapes(network({ baseWidth: 16 }).parameters());
      expect(parameters).to.include({
        'conv1.weight': '16x3x3x3',
        'bn1.bn.0.weight': '16',
        'bn1.bn.3.bias': '4',
        'features.0.conv1.weight': '16x16x3x3',
        'features.3.conv1.weight': '32x16x3x3',
        'features.3.shortcut.0.weight': '32x16x1x1',
        'features.3.shortcut.1.bn.1.weight': '24',
        'features.8.bn2.bn.2.weight': '32',
        'fc.0.weight': '64x64',
        'fc.0.bias': '64',
        'fc.2.weight': '8x64',
        'fc.2.bias': '8',
      });
      expect(parameters).to.not.have.any.keys('features.0.shortcut.0.weight', 'features.9.conv1.weight');
    });

    it('are those of the released checkpoints: bottlenecks, ImageNet stem', () => {
      const net = network({ arch: 'resnet50' });
      const parameters = shapes(net.parameters());
      expect(parameters).to.include({
        'conv1.weight': '8x3x7x7',
        'features.0.conv1.weight': '8x8x1x1',
        'features.0.conv3.weight': '32x8x1x1',
        'features.0.shortcut.0.weight': '32x8x1x1',
        'features.15.bn3.bn.3.weight': '64',
      });
      expect(parameters).to.not.have.any.keys('features.1.shortcut.0.weight', 'features.16.conv1.weight');
      expect(shapes(net.buffers())).to.include({
        'bn1.bn.3.running_mean': '2',
        'features.13.shortcut.1.bn.1.running_var': '192',
      });
    });

    const heads: Record<HeadKind, Record<string, string>> = {
      mocov2_slim: { 'fc.0.weight': '32x32', 'fc.2.weight': '8x32' },
      mocov2_switch: { 'fc.0.linears.1.weight': '24x24', 'fc.2.linears.3.weight': '8x8', 'fc.2.linears.3.bias': '8' },
      mocov3_slim: { 'fc.0.weight': '20x32', 'fc.1.bn.1.weight': '15', 'fc.3.weight': '8x20' },
      simclr_slim: { 'fc.0.bias': '20', 'fc.1.bn.3.bias': '5', 'fc.3.weight': '8x20', 'fc.4.bn.2.weight': '8' },
      supervised: { 'fc.weight': '8x32', 'fc.bias': '8' },
      supervised_switch: { 'fc.linears.0.weight': '8x32', 'fc.linears.3.weight': '8x8' },
    };
    for (const head of HEADS) {
      it(`of head ${head}`, () => {
        const mlpDim = head === 'mocov3_slim' || head === 'simclr_slim' ? 20 : undefined;
        const parameters = shapes(network({ head, mlpDim }).parameters());
        expect(parameters).to.include(heads[head]);
        if (head === 'mocov3_slim')
          expect(parameters).to.not.have.any.keys('fc.0.bias', 'fc.3.bias', 'fc.4.bn.0.weight');
      });
    }

    // Blocks as in the ResNet paper: depth = 2 + layers per block · blocks.
    const blocks = { 18: 8, 34: 16, 50: 16, 101: 33, 152: 50, 20: 9, 32: 15, 44: 21, 56: 27, 110: 54 };
    for (const [depth, count] of Object.entries(blocks)) {
      it(`resnet${depth} has ${count} blocks`, () => {
        const arch = `resnet${depth}` as Arch;
        expect(ARCHITECTURES[arch].stages.reduce((a, b) => a + b)).to.equal(count);
        const names = [...network({ arch, baseWidth: 4 }).parameters().keys()].join();
        expect(names).to.contain(`features.${count - 1}.`);
        expect(names).to.not.contain(`features.${count}.`);
      });
    }
  });

  describe('forward', () => {
    for (const [arch, stem, size] of [
      ['resnet20', 'cifar', 32],
      ['resnet18', 'cifar', 32],
      ['resnet18', 'imagenet', 64],
      ['resnet50', 'imagenet', 64],
      ['resnet50', 'cifar', 32],
    ] as const) {
      it(`${arch} with ${stem} stem gives features and an embedding at every width`, async () => {
        const net = network({ arch, stem });
        const x = images(2, size);
        for (const i of FOUR.keys()) {
          const { features, embedding } = scope(() =>
            noGrad(() => ({ features: net.features(x, i), embedding: net.forward(x, i) })),
          );
          expect(features.shape).to.deep.equal([2, net.featureDims[i]]);
          expect(embedding.shape).to.deep.equal([2, 8]);
          expect(features.dtype).to.equal('float32');
          expect((await values(own(embedding))).every(Number.isFinite)).to.equal(true);
          own(features);
        }
      });
    }

    it('takes any list of widths', async () => {
      const net = network({ widths: [1, 0.9, 0.3] });
      expect(net.featureDims).to.deep.equal([32, 28, 9]);
      for (const i of [0, 1, 2]) {
        const y = own(scope(() => noGrad(() => net.forward(images(2, 16), i))));
        expect((await values(y)).some((v) => v !== 0)).to.equal(true);
      }
    });

    it('takes images of odd sizes', () => {
      const y = own(scope(() => noGrad(() => network({ arch: 'resnet18' }).forward(images(1, 37), 1))));
      expect(y.shape).to.deep.equal([1, 8]);
    });

    it('updates running statistics in training only, and those of the width that ran only', async () => {
      const net = network();
      const mean = (i: number) => values(net.buffers().get(`bn1.bn.${i}.running_mean`)!);
      const run = (i: number) => scope(() => noGrad(() => void net.forward(images(4, 16), i)));
      net.eval();
      run(0);
      expect((await mean(0)).every((v) => v === 0)).to.equal(true);
      net.train();
      run(1);
      expect((await mean(0)).every((v) => v === 0)).to.equal(true);
      expect((await mean(1)).some((v) => v !== 0)).to.equal(true);
    });

    it('in bfloat16 stays near float32', async () => {
      const options = { arch: 'resnet18', stem: 'cifar', baseWidth: 16 } as const;
      const x = images(8, 32);
      const features = (net: SlimmableResNet) => values(own(scope(() => noGrad(() => net.features(x, 0)))));
      const exact = await features(network(options));
      const rounded = await features(network({ ...options, precision: 'bf16' }));
      const error = Math.hypot(...exact.map((v, i) => v - rounded[i])) / Math.hypot(...exact);
      expect(error).to.be.within(1e-6, 0.05);
    });

    it('keeps parameters float32 in bfloat16', () => {
      const dtypes = [...network({ precision: 'bf16' }).stateDict().values()].map((t) => t.dtype);
      expect(new Set(dtypes)).to.deep.equal(new Set(['float32']));
    });
  });

  describe('gradients', () => {
    it('of a sub-network reach its slice of the weights and its own BatchNorms only', async () => {
      const net = network();
      scope(() => backward(sum(net.forward(images(4, 16), 2))));
      const gradient = (name: string) => net.parameters().get(name)!.grad;
      const conv = await values(gradient('features.0.conv1.weight')!); // [8, 8, 3, 3], slice [:4, :4]
      let [inside, outside] = [0, 0];
      for (const [i, v] of conv.entries()) {
        const isInside = Math.floor(i / 72) < 4 && Math.floor(i / 9) % 8 < 4;
        if (isInside) inside += Math.abs(v);
        else outside += Math.abs(v);
      }
      expect(inside).to.be.above(0);
      expect(outside).to.equal(0);
      const fc = await values(gradient('fc.2.weight')!); // [8, 32], slice [:, :16]
      expect(fc.some((v, i) => i % 32 < 16 && v !== 0)).to.equal(true);
      expect(fc.every((v, i) => i % 32 < 16 || v === 0)).to.equal(true);
      expect(gradient('bn1.bn.2.weight')).to.not.equal(null);
      expect(gradient('bn1.bn.0.weight')).to.equal(null);
    });

    it('of several widths add up on the shared weights', async () => {
      const net = network();
      const x = images(4, 16);
      const weight = net.parameters().get('features.4.conv2.weight')!;
      const gradientOf = async (widths: number[]) => {
        for (const p of net.parameters().values()) {
          p.grad?.dispose();
          p.grad = null;
        }
        scope(() => {
          for (const i of widths) backward(sum(net.forward(x, i)));
        });
        return Array.from(await values(weight.grad!));
      };
      const [full, half, both] = [await gradientOf([0]), await gradientOf([2]), await gradientOf([0, 2])];
      const size = Math.hypot(...both);
      expect(size).to.be.above(0);
      expect(Math.hypot(...both.map((v, i) => v - full[i] - half[i]))).to.be.below(1e-5 * size);
    });

    it('do not reach frozen parameters', () => {
      const net = network().freeze();
      expect([...net.parameters().values()].some((p) => p.requiresGrad)).to.equal(false);
    });
  });

  describe('initialisation', () => {
    const weights = async (net: SlimmableResNet) => {
      const all = await Promise.all([...net.parameters().values()].map(values));
      return all.flatMap((v) => Array.from(v));
    };

    it('is the same for a seed and another for another seed', async () => {
      const [a, b, c] = [network({ seed: 1 }), network({ seed: 1 }), network({ seed: 2 })];
      expect(await weights(a)).to.deep.equal(await weights(b));
      expect(await weights(a)).to.not.deep.equal(await weights(c));
    });

    it('draws every weight from a stream of its own', async () => {
      const parameters = network().parameters();
      const first = await values(parameters.get('features.1.conv1.weight')!);
      const second = await values(parameters.get('features.1.conv2.weight')!);
      expect(first).to.not.deep.equal(second);
    });

    it('follows the fan-out rule, the default of PyTorch in the projector, and zero γ at the end of bottlenecks', async () => {
      const parameters = network({ arch: 'resnet50', baseWidth: 16 }).parameters();
      const std = async (name: string) => {
        const v = await values(parameters.get(name)!);
        return Math.hypot(...v.slice(0, 20_000)) / Math.sqrt(Math.min(v.length, 20_000));
      };
      // [128, 128, 3, 3]: √(2/(128·9))
      expect(await std('features.14.conv2.weight')).to.be.closeTo(Math.sqrt(2 / 1152), 0.001);
      // [512, 512]: uniform within ±1/√512
      expect(await std('fc.0.weight')).to.be.closeTo(1 / Math.sqrt(3 * 512), 0.0005);
      expect(Math.max(...(await values(parameters.get('fc.0.bias')!)))).to.be.within(0.04, 1 / Math.sqrt(512));
      for (const [name, expected] of [
        ['features.3.bn2.bn.1.weight', 1],
        ['features.3.bn2.bn.1.bias', 0],
        ['features.3.bn3.bn.0.weight', 0],
        ['features.3.bn3.bn.2.weight', 0],
        ['features.3.shortcut.1.bn.0.weight', 1],
      ] as const) {
        expect(new Set(await values(parameters.get(name)!)), name).to.deep.equal(new Set([expected]));
      }
    });
  });

  describe('cost', () => {
    it('of ResNet-50 at 224² with 1000 classes is that of the paper', () => {
      const net = network({ arch: 'resnet50', head: 'supervised', outDim: 1000, baseWidth: 64 });
      const millions = (n: number, digits: number, unit: number) => Number((n / unit).toFixed(digits));
      const costs = FOUR.map((_, i) => {
        const { backbone, head } = net.cost(i, [224, 224]);
        return [millions(backbone.parameters + head.parameters, 2, 1e6), millions(backbone.macs + head.macs, 3, 1e9)];
      });
      expect(costs).to.deep.equal([
        [25.56, 4.089],
        [14.77, 2.323],
        [6.92, 1.052],
        [1.99, 0.278],
      ]);
    });

    it('counts the parameters of the full network as they are', () => {
      const net = network({ widths: [1], head: 'mocov2_slim' });
      const { backbone, head } = net.cost(0, [32, 32]);
      const parameters = [...net.parameters().values()].reduce((n, p) => n + p.size, 0);
      expect(backbone.parameters + head.parameters).to.equal(parameters);
    });
  });

  describe('options', () => {
    const refuse = (options: Partial<Record<keyof ResNetOptions, unknown>>, message: RegExp) =>
      expect(() => network(options as Partial<ResNetOptions>)).to.throw(RangeError, message);

    it('are checked, and errors name what is possible', () => {
      refuse({ arch: 'resnet19' }, /arch to be one of resnet18, .*resnet110, received resnet19/);
      refuse({ head: 'moco' }, /head to be one of mocov2_slim, .*received moco/);
      refuse({ stem: 'imagenet' }, /stem of resnet20 to be one of cifar, received imagenet/);
      refuse({ precision: 'fp8' }, /precision to be one of fp32, bf16, fp16, received fp8/);
      refuse({ widths: [0.5, 1] }, /use \[1, 0.5\]/);
      refuse({ baseWidth: 0 }, /baseWidth to be a positive integer, received 0/);
      refuse({ baseWidth: 2 }, /width 0.25 leaves none of 2 channels/);
      refuse({ outDim: 1.5 }, /outDim to be a positive integer, received 1.5/);
      refuse({ head: 'simclr_slim' }, /mlpDim is needed for head simclr_slim/);
      refuse({ mlpDim: 16 }, /mlpDim is not used by head mocov2_slim/);
    });
  });

  it('gives all its memory back, gradients included', async () => {
    await collectGarbage();
    const x = images(2, 16);
    const before = memoryStats().tensors;
    const net = new SlimmableResNet({ arch: 'resnet20', head: 'mocov2_slim', outDim: 8 });
    scope(() => backward(sum(net.forward(x, 0))));
    expect(memoryStats().tensors).to.be.above(before);
    net.dispose();
    expect(memoryStats().tensors).to.equal(before);
  });
});
