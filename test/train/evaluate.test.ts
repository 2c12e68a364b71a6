import { expect } from 'chai';
import { collectGarbage } from '../garbage';
import { symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { loadImages, Philox, scanImageFolder } from '../../lib/data';
import { Initializer, Module, SlimmableConv2d, SlimmableResNet, type SlimmableEncoder } from '../../lib/nn';
import {
  computedFeatures,
  evaluateCheckpoint,
  evaluateKnn,
  evaluateLinear,
  fingerprint,
  knnAccuracy,
  linearAccuracy,
  pretrain,
  randomCropFeatures,
  Views,
  type FeatureSet,
  type LinearProbeOptions,
  type RunEvent,
} from '../../lib/train';
import { fill, globalAvgPool2d, memoryStats, relu, scope, type Tensor } from '../../lib/tensor';
import { newFolder, removeFolders, tinyPictures, tinySettings } from './tiny-run';

/** Features of two widths, of 3 classes: class c lies around the c-th axis; noise hides it more at the second width. */
function features(count: number, seed: number): FeatureSet {
  const random = new Philox(seed, 99);
  const labels = Int32Array.from({ length: count }, (_, i) => i % 3);
  const rows = (dim: number, noise: number) =>
    Float32Array.from({ length: count * dim }, (_, i) => {
      const [row, column] = [Math.floor(i / dim), i % dim];
      return (column === labels[row] ? 1 : 0) + random.uniform(-noise, noise);
    });
  return { widths: [1, 0.5], dims: [8, 4], features: [rows(8, 0.3), rows(4, 1)], labels };
}

const linear = (train: FeatureSet, test: FeatureSet, options?: LinearProbeOptions) =>
  linearAccuracy(computedFeatures(train, 'cpu'), test, 3, 'cpu', options);

describe('evaluation of features', () => {
  const [train, test] = [features(300, 1), features(150, 2)];

  it('finds classes by their neighbours', async () => {
    const accuracy = await knnAccuracy(train, test, 3, 'cpu', { k: 20 });
    expect(accuracy['1']).to.be.above(0.98);
    expect(accuracy['0.5']).to.be.within(0.5, 0.95);
  });

  it('takes fewer neighbours where there are fewer pictures than k', async () => {
    const few = { ...features(12, 3) };
    expect((await knnAccuracy(few, test, 3, 'cpu'))['1']).to.be.above(0.9);
  });

  for (const probe of ['switchable', 'slimmable'] as const) {
    for (const loss of ['distill', 'labels'] as const) {
      it(`finds classes by ${probe} linear probes that learn from ${loss}`, async () => {
        const accuracy = await linear(train, test, { probe, loss, epochs: 20, batch: 32 });
        expect(accuracy['1']).to.be.above(0.98);
        expect(accuracy['0.5']).to.be.within(0.5, 0.95);
      });
    }
  }

  it('does as well on features of any scale', async () => {
    const scaled = (set: FeatureSet) => ({ ...set, features: set.features.map((f) => f.map((x) => 1000 * x)) });
    const accuracy = await linear(scaled(train), scaled(test), { epochs: 20, batch: 32 });
    expect(accuracy['1']).to.be.above(0.98);
  });

  it('finds classes with the settings for features as they are', async () => {
    const options = { features: 'raw', lrMode: 'cos', lr: 0.4, epochs: 30, batch: 32 } as const;
    expect((await linear(train, test, options))['1']).to.be.above(0.98);
    // A thousand times the length makes steps a million times as far.
    const long = { ...train, features: train.features.map((f) => f.map((x) => 1000 * x)) };
    const wild = await linear(long, test, { ...options, epochs: 1 });
    expect(wild).to.not.deep.equal(await linear(train, test, { ...options, epochs: 1 }));
  });

  it('refuses settings that make no sense, by name', async () => {
    const error = await linear(train, test, { lr: -1 }).catch((e: unknown) => e as Error);
    expect((error as Error).message).to.equal('[config] settings: lr: expected a number above 0, received -1');
  });

  it('tells of a probe whose loss is no number instead of its accuracy', async () => {
    const { tensors } = memoryStats('cpu');
    const broken = { ...train, features: train.features.map((f, i) => (i === 1 ? f.map(() => NaN) : f)) };
    const error = await linear(broken, test, { epochs: 3 }).catch((e: unknown) => e as Error);
    expect((error as Error).message).to.match(/^\[linear\] the loss of step \d+ is not finite at width 0\.5; lower lr/);
    expect(memoryStats('cpu')).to.include({ tensors });
  });

  it('gives all memory back', async () => {
    await collectGarbage();
    const { tensors, bytes } = memoryStats('cpu');
    await knnAccuracy(train, test, 3, 'cpu');
    await linear(train, test, { epochs: 1 });
    expect(memoryStats('cpu')).to.include({ tensors, bytes });
  });
});

/** A network that is no ResNet. */
class OneLayer extends Module implements SlimmableEncoder {
  readonly widths = [1, 0.5];
  readonly featureDims = [8, 4];
  private readonly conv = this.addModule('conv', new SlimmableConv2d(new Initializer(0), [3, 3], [8, 4], 3, 2));

  features(x: Tensor, widthIndex: number): Tensor {
    return globalAvgPool2d(relu(this.conv.forward(x, widthIndex)));
  }
}

describe('evaluation of a network of your own', () => {
  after(removeFolders);

  it('is that of any network: kNN, and probes on the whole pictures or on crops', async () => {
    const folder = await scanImageFolder(await tinyPictures());
    const [train, test] = await Promise.all([folder.train, folder.test!].map(async (f) => (await loadImages(f)).store));
    const pictures = { train, test, classes: folder.classes };
    const settings = { recipe: 'cifar', image: 16, seed: 0, precision: 'fp32' } as const;
    const network = new OneLayer();
    const accuracies = [await evaluateKnn(network, pictures, settings, 'cpu', { k: 5 })];
    for (const views of ['center', 'random'] as const) {
      accuracies.push(await evaluateLinear(network, pictures, settings, 'cpu', { views, epochs: 20, batch: 8 }));
    }
    for (const accuracy of accuracies) {
      expect(Object.keys(accuracy).sort()).to.deep.equal(['0.5', '1']);
      expect(accuracy['1']).to.be.within(0.25, 1);
    }
    network.dispose();
  });
});

describe('evaluation of a checkpoint', () => {
  let data: string;
  let checkpoint: string;
  let knn: Record<string, number> | null;

  before(async () => {
    data = await tinyPictures();
    const out = newFolder();
    ({ knn } = await pretrain(tinySettings(data), { out }));
    checkpoint = join(out, 'checkpoint.safetensors');
  });
  after(removeFolders);

  it('gives the kNN of the end of training', async () => {
    const result = await evaluateCheckpoint({ knn: {} }, { checkpoint, data, device: 'cpu' });
    expect(result).to.deep.equal({ accuracy: knn, chance: 0.25 });
  });

  it('trains linear probes of every width', async () => {
    const { accuracy } = await evaluateCheckpoint({ linear: { epochs: 5 } }, { checkpoint, data });
    expect(Object.keys(accuracy)).to.have.members(['1', '0.5']);
    for (const share of Object.values(accuracy)) expect(share).to.be.within(0, 1);
  });

  it('gives the same accuracy again', async () => {
    const again = () => evaluateCheckpoint({ linear: { epochs: 3 } }, { checkpoint, data });
    expect(await again()).to.deep.equal(await again());
  });

  it('takes a part of the training pictures', async () => {
    const lines: string[] = [];
    await evaluateCheckpoint(
      { knn: {} },
      { checkpoint, data, limit: 10, report: (e) => void (e.type === 'message' && lines.push(e.text)) },
    );
    expect(lines[0]).to.match(/^10 pictures to train on/);
  });

  for (const [lacks, folder] of [
    ['classes', (data: string) => join(data, 'test/star')],
    [
      'a test set',
      (data: string) => {
        const untested = newFolder();
        symlinkSync(join(data, 'train'), join(untested, 'train'));
        return untested;
      },
    ],
  ] as const) {
    it(`needs ${lacks}, and says so before it decodes a picture`, async () => {
      const events: RunEvent[] = [];
      const where = { checkpoint, data: folder(data), report: (event: RunEvent) => void events.push(event) };
      const error = await evaluateCheckpoint({ knn: {} }, where).then(
        () => expect.fail('evaluated'),
        (e: Error) => e,
      );
      expect(error.message).to.match(
        new RegExp(`expected pictures in class folders.*received pictures without ${lacks}`),
      );
      expect(events).to.deep.equal([]);
    });
  }
});

describe('linear probes on random crops', () => {
  let data: string;
  before(async () => (data = await tinyPictures()));
  after(removeFolders);

  const settings = { recipe: 'cifar', image: 16, seed: 0, precision: 'fp32' } as const;
  const newEncoder = () =>
    new SlimmableResNet({ arch: 'resnet20', baseWidth: 4, head: 'supervised', outDim: 2, widths: [1, 0.5] })
      .freeze()
      .eval();

  /** Features of the full network of one and the same picture, epoch by epoch. */
  async function ofOnePicture(seed: number, epochs: number): Promise<string[]> {
    const { train } = await scanImageFolder(data);
    const { store } = await loadImages({ ...train, paths: train.paths.slice(0, 1), labels: train.labels!.slice(0, 1) });
    const encoder = newEncoder();
    const views = new Views(store, { ...settings, seed }, 'cpu');
    const features = await randomCropFeatures(encoder, store, views, { ...settings, seed });
    const seen: string[] = [];
    for await (const batch of features.batches({ epochs, batch: 32, seed })) {
      expect([...batch.labels]).to.deep.equal([...store.labels!]);
      seen.push(scope(() => String(batch.features()[0].dataSync())));
    }
    views.dispose();
    encoder.dispose();
    return seen;
  }

  it('see every picture anew in every epoch', async () => {
    // A flip alone would give two kinds of features.
    expect(new Set(await ofOnePicture(1, 4)).size).to.equal(4);
  });

  it('see the same crops again with the same seed, and others with another one', async () => {
    const first = await ofOnePicture(1, 2);
    expect(await ofOnePicture(1, 2)).to.deep.equal(first);
    expect(await ofOnePicture(2, 2)).to.not.include.members(first.slice(0, 1));
  });

  it('depend on the seed alone, leave the network as it was, and give their memory back', async () => {
    const { train, test, classes } = await scanImageFolder(data);
    const pictures = { train: (await loadImages(train)).store, test, classes };
    await collectGarbage();
    const before = memoryStats('cpu').tensors;
    const encoder = newEncoder();
    const unchanged = await fingerprint(encoder);
    const events: RunEvent[] = [];
    const evaluate = (views: 'center' | 'random', seed = 0) => {
      const report = (event: RunEvent) => void events.push(event);
      return evaluateLinear(encoder, pictures, settings, 'cpu', { views, seed, epochs: 3, batch: 20, report });
    };
    const accuracy = await evaluate('random');
    expect(await evaluate('random')).to.deep.equal(accuracy);
    expect(accuracy).to.have.keys('1', '0.5');
    expect(await fingerprint(encoder)).to.equal(unchanged);
    // 48 pictures make two steps of 20; progress is told after the last one of 3 epochs.
    expect(events.slice(0, 2)).to.deep.equal([
      { type: 'start', epochs: 3, steps: 6, slowStartSteps: 0, slimCost: 1 },
      { type: 'progress', step: 6 },
    ]);
    encoder.dispose();
    expect(memoryStats('cpu').tensors).to.equal(before);
  });
});

describe('the fingerprint of a network', () => {
  it('tells a change of a weight and of a BatchNorm statistic', async () => {
    const network = new SlimmableResNet({ arch: 'resnet20', baseWidth: 4, head: 'supervised', outDim: 2, widths: [1] });
    const seen = new Set([await fingerprint(network)]);
    expect(seen).to.include(await fingerprint(network));
    fill([network.stateDict().get('conv1.weight')!], 0);
    seen.add(await fingerprint(network));
    fill([network.stateDict().get('bn1.bn.0.running_mean')!], 3);
    seen.add(await fingerprint(network));
    expect(seen.size).to.equal(3);
    network.dispose();
  });
});
