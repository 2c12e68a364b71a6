import { expect } from 'chai';
import { join } from 'node:path';
import { Philox } from '../../lib/data';
import { SlimmableResNet } from '../../lib/nn';
import {
  evaluateCheckpoint,
  fingerprint,
  knnAccuracy,
  linearAccuracy,
  pretrain,
  type FeatureSet,
} from '../../lib/train';
import { fill, memoryStats } from '../../lib/tensor';
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
        const accuracy = await linearAccuracy(train, test, 3, 'cpu', { probe, loss, epochs: 20, batch: 32 });
        expect(accuracy['1']).to.be.above(0.98);
        expect(accuracy['0.5']).to.be.within(0.5, 0.95);
      });
    }
  }

  it('does as well on features of any scale', async () => {
    const scaled = (set: FeatureSet) => ({ ...set, features: set.features.map((f) => f.map((x) => 1000 * x)) });
    const accuracy = await linearAccuracy(scaled(train), scaled(test), 3, 'cpu', { epochs: 20, batch: 32 });
    expect(accuracy['1']).to.be.above(0.98);
  });

  it('finds classes with the settings for features as they are', async () => {
    const options = { features: 'raw', lrMode: 'cos', lr: 0.4, epochs: 30, batch: 32 } as const;
    expect((await linearAccuracy(train, test, 3, 'cpu', options))['1']).to.be.above(0.98);
    // A thousand times the length makes steps a million times as far.
    const long = { ...train, features: train.features.map((f) => f.map((x) => 1000 * x)) };
    const wild = await linearAccuracy(long, test, 3, 'cpu', { ...options, epochs: 1 });
    expect(wild).to.not.deep.equal(await linearAccuracy(train, test, 3, 'cpu', { ...options, epochs: 1 }));
  });

  it('refuses settings that make no sense, by name', async () => {
    const error = await linearAccuracy(train, test, 3, 'cpu', { lr: -1 }).catch((e: unknown) => e as Error);
    expect((error as Error).message).to.equal('[config] settings: lr: expected a number above 0, received -1');
  });

  it('gives all memory back', async () => {
    const { tensors, bytes } = memoryStats('cpu');
    await knnAccuracy(train, test, 3, 'cpu');
    await linearAccuracy(train, test, 3, 'cpu', { epochs: 1 });
    expect(memoryStats('cpu')).to.include({ tensors, bytes });
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
    const result = await evaluateCheckpoint({ knn: {} }, { checkpoint, data });
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

  it('needs classes', async () => {
    const plain = join(data, 'test/star');
    const error = await evaluateCheckpoint({ knn: {} }, { checkpoint, data: plain }).then(
      () => expect.fail('evaluated'),
      (e: Error) => e,
    );
    expect(error.message).to.match(/expected pictures in class folders.*received pictures without classes/);
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
