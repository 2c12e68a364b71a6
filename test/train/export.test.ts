import { expect } from 'chai';
import { join } from 'node:path';
import { readSafetensors, writeSafetensors, type SafetensorsTensor } from '../../lib/io';
import { readState, SlimmableResNet, type Arch, type HeadKind, type Stem } from '../../lib/nn';
import { noGrad, randn, scope } from '../../lib/tensor';
import { exportNetwork } from '../../lib/train';
import { networkFormat } from '../../lib/train/network';
import { newFolder, removeFolders } from './tiny-run';

/** torchvision's names of the exported tensors as those of a network of one width. */
function ownNames(tensors: ReadonlyMap<string, SafetensorsTensor>): Map<string, SafetensorsTensor> {
  const names = new Map<string, SafetensorsTensor>();
  const blocks = [...new Set([...tensors.keys()].flatMap((name) => /^layer\d+\.\d+/.exec(name)?.[0] ?? []))];
  for (const [name, tensor] of tensors) {
    const own = name
      .replace(/^layer\d+\.\d+/, (block) => `features.${blocks.indexOf(block)}`)
      .replace('downsample', 'shortcut')
      .replace(/(^bn1|\.bn\d|shortcut\.1|^fc\.1|^fc\.4)\.(\w+)$/, '$1.bn.0.$2')
      .replace(/^(fc(?:\.\d)?)\.(weight|bias)$/, '$1.$2');
    names.set(own, tensor);
  }
  return names;
}

describe('exportNetwork', () => {
  after(removeFolders);

  const cases: { arch: Arch; head: HeadKind; stem: Stem; mlpDim?: number }[] = [
    { arch: 'resnet20', head: 'mocov2_slim', stem: 'cifar' },
    { arch: 'resnet18', head: 'supervised', stem: 'imagenet' },
    { arch: 'resnet18', head: 'mocov2_switch', stem: 'cifar' },
    { arch: 'resnet50', head: 'mocov3_slim', stem: 'imagenet', mlpDim: 24 },
    { arch: 'resnet20', head: 'simclr_slim', stem: 'cifar', mlpDim: 24 },
    { arch: 'resnet20', head: 'supervised_switch', stem: 'cifar' },
  ];
  for (const { arch, head, stem, mlpDim } of cases) {
    it(`of ${arch} with ${head} gives plain networks that compute what each width does`, async () => {
      const net = new SlimmableResNet({ arch, head, stem, mlpDim, outDim: 6, widths: [1, 0.75, 0.25], baseWidth: 8 });
      // Statistics and weights of BatchNorm that differ between widths and channels.
      for (const [name, t] of net.stateDict()) {
        if (!name.includes('.bn.')) continue;
        const noise = (await scope(() =>
          randn([...t.shape], { seed: name.length + Number(/bn\.(\d)/.exec(name)![1]) }),
        ).data()) as Float32Array;
        t.copyFrom(noise.map((x) => (/weight|var/.test(name) ? 1 + x * x : x / 4)));
      }
      net.eval();
      const file = join(newFolder(), 'slimmable.safetensors');
      const state = (await readState(net.stateDict())) as ReadonlyMap<string, SafetensorsTensor>;
      const views = JSON.stringify({ recipe: 'cifar', image: 32 });
      await writeSafetensors(file, state, { format: networkFormat, prefix: '', views, source: '{}' });

      const x = randn([2, 3, 33, 33], { seed: 3 });
      for (const [i, width] of net.widths.entries()) {
        const output = join(newFolder(), 'plain.safetensors');
        await exportNetwork(file, width, output);
        const { tensors, metadata } = await readSafetensors(output);
        expect(metadata.format).to.equal('pt');
        const described = JSON.parse(metadata.network) as Record<string, unknown>;
        expect(described).to.include({
          arch,
          width,
          head,
          outDim: 6,
          stemChannels: 8 * width,
          features: net.featureDims[i],
        });

        const plain = new SlimmableResNet({
          arch,
          head,
          stem,
          mlpDim: mlpDim && mlpDim * width,
          outDim: 6,
          widths: [1],
          baseWidth: 8 * width,
        }).eval();
        const linears = head.endsWith('_switch') ? /^(fc(?:\.\d)?)\.(weight|bias)$/ : /$^/;
        const own = ownNames(tensors);
        plain.loadStateDict(new Map([...own].map(([name, t]) => [name.replace(linears, '$1.linears.0.$2'), t])));
        const outputs = scope(() =>
          noGrad(() => [net.features(x, i), plain.features(x, 0), net.forward(x, i), plain.forward(x, 0)]),
        );
        const [features, plainFeatures, y, plainY] = await Promise.all(
          outputs.map((t) => t.data() as Promise<Float32Array>),
        );
        expectClose(plainFeatures, features);
        expectClose(plainY, y);
        for (const t of outputs) t.dispose();
        plain.dispose();
      }
      x.dispose();
      net.dispose();
    });
  }

  it('has torchvision’s names', async () => {
    const net = new SlimmableResNet({
      arch: 'resnet18',
      head: 'supervised',
      outDim: 4,
      widths: [1, 0.3],
      baseWidth: 16,
    });
    const file = join(newFolder(), 's.safetensors');
    const state = (await readState(net.stateDict())) as ReadonlyMap<string, SafetensorsTensor>;
    net.dispose();
    const views = JSON.stringify({ recipe: 'mocov2', image: 224 });
    await writeSafetensors(file, state, { format: networkFormat, prefix: '', views, source: '{}' });
    const { tensors } = await exportNetwork(file, 0.3, join(newFolder(), 'p.safetensors'));
    const norm = (name: string) => ['weight', 'bias', 'running_mean', 'running_var'].map((part) => `${name}.${part}`);
    const names = ['conv1.weight', ...norm('bn1'), 'fc.weight', 'fc.bias'];
    for (const layer of [1, 2, 3, 4]) {
      for (const block of [0, 1]) {
        for (const n of [1, 2])
          names.push(`layer${layer}.${block}.conv${n}.weight`, ...norm(`layer${layer}.${block}.bn${n}`));
      }
      if (layer > 1) names.push(`layer${layer}.0.downsample.0.weight`, ...norm(`layer${layer}.0.downsample.1`));
    }
    expect([...tensors.keys()]).to.have.members(names);
    // int(c·0.3) of every stage by itself: 4, 9, 19, 38.
    expect(tensors.get('layer4.1.conv1.weight')!.shape).to.deep.equal([38, 38, 3, 3]);
    expect(tensors.get('layer2.0.downsample.0.weight')!.shape).to.deep.equal([9, 4, 1, 1]);
  });
});

/** Equal up to the rounding of sums in another order. */
function expectClose(actual: Float32Array, expected: Float32Array): void {
  expect(actual.length).to.equal(expected.length);
  const scale = Math.max(...expected.map(Math.abs));
  const error = Math.max(...expected.map((x, i) => Math.abs(x - actual[i])));
  expect(error).to.be.at.most(1e-5 * scale);
}
