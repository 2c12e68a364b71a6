import { expect } from 'chai';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import sharp from 'sharp';
import {
  DataError,
  epochOrder,
  generateShapes,
  loadImages,
  orderedBatches,
  scanImageFolder,
  stepsPerEpoch,
  trainingBatches,
  writeShapes,
  type Batch,
  type ImageFiles,
  type ImageSource,
  type ImageStore,
} from '../../lib/data';

async function collect(batches: AsyncIterable<Batch>): Promise<Batch[]> {
  const all: Batch[] = [];
  for await (const batch of batches) all.push(batch);
  return all;
}

/** The pixels that a batch points out, picture by picture. */
function pictures({ pixels, offsets, sizes }: Batch): number[][] {
  return Array.from(offsets, (offset, i) => {
    const begin = Number(offset);
    return [...pixels.subarray(begin, begin + sizes[2 * i] * sizes[2 * i + 1] * 3)];
  });
}

describe('loader', function () {
  this.timeout(20_000);
  let folder: string;
  let files: ImageFiles;
  let store: ImageStore;
  const rejections: unknown[] = [];
  const note = (error: unknown): number => rejections.push(error);

  before(() => process.on('unhandledRejection', note));
  after(() => process.off('unhandledRejection', note));
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'slimclr-loader-'));
    await writeShapes(folder, { count: 50, testCount: 12, size: 12 });
    files = (await scanImageFolder(folder)).train;
    store = (await loadImages(files)).store;
  });
  afterEach(async () => {
    await rm(folder, { recursive: true });
    expect(rejections).to.deep.equal([]);
  });

  it('visits each picture at most once an epoch, in an order of its own per epoch and seed', async () => {
    const all = await collect(trainingBatches(store, { batchSize: 8, seed: 3, epochs: 2 }));
    expect(all.map(({ epoch, step }) => [epoch, step])).to.deep.equal(
      [0, 1].flatMap((e) => [0, 1, 2, 3, 4, 5].map((s) => [e, s])),
    );
    expect(stepsPerEpoch(store, 8)).to.equal(6);
    const epochs = [0, 1].map((e) => all.filter(({ epoch }) => epoch === e).flatMap(({ indices }) => [...indices]));
    for (const [e, order] of epochs.entries()) {
      expect(new Set(order).size).to.equal(48);
      expect(order).to.deep.equal([...epochOrder(50, 3, e).subarray(0, 48)]);
    }
    expect(epochs[0]).to.not.deep.equal(epochs[1]);
    expect(epochOrder(50, 3, 0)).to.not.deep.equal(epochOrder(50, 4, 0));
  });

  it('points into the store without copying it', async () => {
    const [batch] = await collect(trainingBatches(store, { batchSize: 50, seed: 0, epochs: 1 }));
    expect(batch.pixels).to.equal(store.pixels);
    batch.indices.forEach((image, i) => {
      expect(batch.offsets[i]).to.equal(store.offsets[image]);
      expect(batch.labels![i]).to.equal(store.labels![image]);
      expect([...batch.sizes.subarray(2 * i, 2 * i + 2)]).to.deep.equal([12, 12]);
    });
  });

  it('gives the same pictures from files as from the store', async () => {
    await sharp({ create: { width: 7, height: 5, channels: 3, background: '#010203' } })
      .png()
      .toFile(files.paths[3]);
    const { store: mixed } = await loadImages(files);
    const options = { batchSize: 8, seed: 1, epochs: 2 };
    const fromFiles = await collect(trainingBatches(files, options));
    const fromStore = await collect(trainingBatches(mixed, options));
    const content = (batch: Batch): unknown => ({ ...batch, pixels: null, offsets: null, pictures: pictures(batch) });
    expect(fromFiles.map(content)).to.deep.equal(fromStore.map(content));
  });

  const sources: [string, () => ImageSource][] = [
    ['a store', () => store],
    ['files', () => files],
  ];
  for (const [name, source] of sources) {
    it(`goes on from any step as the uninterrupted run would have, from ${name}`, async () => {
      const options = { batchSize: 16, seed: 7, epochs: 3 };
      const straight = await collect(trainingBatches(source(), options));
      expect(straight).to.have.length(9);
      for (const [done, begin] of [
        [2, { epoch: 0, step: 2 }],
        [3, { epoch: 1 }],
        [3, { epoch: 0, step: 3 }],
        [7, { epoch: 2, step: 1 }],
        [9, { epoch: 3 }],
      ] as const) {
        expect(await collect(trainingBatches(source(), { ...options, ...begin }))).to.deep.equal(straight.slice(done));
      }
    });

    it(`gives all pictures in order, once, from ${name}`, async () => {
      const all = await collect(orderedBatches(source(), { batchSize: 16 }));
      expect(all.map(({ indices }) => indices.length)).to.deep.equal([16, 16, 16, 2]);
      expect(all.flatMap(({ indices }) => [...indices])).to.deep.equal(Array.from({ length: 50 }, (_, i) => i));
      expect(all.flatMap(({ labels }) => [...labels!])).to.deep.equal([...files.labels!]);
    });
  }

  it('has no labels where the source has none', async () => {
    for (const source of [
      { ...store, labels: null },
      { ...files, labels: null },
    ]) {
      const [batch] = await collect(orderedBatches(source, { batchSize: 50 }));
      expect(batch.labels).to.equal(null);
    }
  });

  it('decodes ahead, only so far, while the batches are used', async () => {
    // Each file fails when it is decoded, which tells how many were opened.
    for (const path of files.paths.slice(10)) await writeFile(path, 'text');
    const opened = new Set<string>();
    const batches = orderedBatches(files, {
      batchSize: 5,
      prefetch: 2,
      maxBadShare: 1,
      onBad: ({ file }) => opened.add(file),
    });
    await batches.next();
    // The second batch is good, the third is decoded although it is not yet due.
    while (opened.size === 0) await sleep(5);
    expect([...opened].every((file) => files.paths.indexOf(file) >= 10)).to.equal(true);
    await batches.return();
  });

  it('leaves the event loop free', async () => {
    let ticks = 0;
    const timer = setInterval(() => ticks++, 1);
    await collect(trainingBatches(files, { batchSize: 10, seed: 0, epochs: 20 }));
    clearInterval(timer);
    // Decoded on this thread, batches would follow each other without a turn of the event loop.
    expect(ticks).to.be.greaterThan(0);
  });

  it('stops decoding when the loop is left', async () => {
    for (const path of files.paths.slice(5)) await writeFile(path, 'text');
    const opened: string[] = [];
    for await (const batch of orderedBatches(files, {
      batchSize: 5,
      concurrency: 1,
      maxBadShare: 1,
      onBad: ({ file }) => opened.push(file),
    })) {
      expect(batch.step).to.equal(0);
      break;
    }
    const count = opened.length;
    await sleep(200);
    expect(opened.length).to.be.at.most(count + 1); // the file under way comes to its end
    expect(count).to.be.lessThan(10);
  });

  it('puts the next good picture in place of a bad one, always the same', async () => {
    await writeFile(files.paths[49], 'text');
    await writeFile(files.paths[0], '');
    const told: string[] = [];
    const options = {
      batchSize: 50,
      seed: 2,
      epochs: 3,
      maxBadShare: 0.04,
      onBad: ({ file }: { file: string }) => void told.push(file),
    };
    const all = await collect(trainingBatches(files, options));
    expect(told.sort(), 'told once each').to.deep.equal([files.paths[0], files.paths[49]]);
    all.forEach((batch, epoch) => {
      const expected = epochOrder(50, 2, epoch).map((i) => (i === 49 || i === 0 ? 1 : i));
      expect(batch.indices).to.deep.equal(expected);
      expect(batch.labels).to.deep.equal(expected.map((i) => files.labels![i]));
    });
  });

  it('fails beyond the share of bad files, naming them', async () => {
    await writeFile(files.paths[20], 'text');
    const error = await collect(trainingBatches(files, { batchSize: 10, seed: 0, epochs: 1 })).catch((e: Error) => e);
    expect(error).to.be.instanceOf(DataError).with.property('message').that.includes(files.paths[20]);
    for (const path of files.paths) await writeFile(path, 'text');
    const none = await collect(orderedBatches(files, { batchSize: 10, maxBadShare: 1 })).catch((e: Error) => e);
    expect(none)
      .to.be.instanceOf(DataError)
      .with.property('message')
      .that.matches(/none of 50 files/);
  });

  it('scales large files down to twice the output', async () => {
    await sharp({ create: { width: 90, height: 60, channels: 3, background: '#336699' } })
      .png()
      .toFile(files.paths[0]);
    const [batch] = await collect(orderedBatches(files, { batchSize: 2, outputSize: 10 }));
    expect([...batch.sizes]).to.deep.equal([20, 30, 12, 12]);
  });

  it('refuses sizes, epochs and steps that make no sense', () => {
    const options = { batchSize: 8, seed: 0, epochs: 1 };
    for (const batchSize of [0, -1, 1.5, NaN]) {
      expect(() => trainingBatches(store, { ...options, batchSize })).to.throw(RangeError, /batchSize/);
      expect(() => orderedBatches(store, { batchSize })).to.throw(RangeError, /batchSize/);
    }
    expect(() => trainingBatches(store, { ...options, batchSize: 51 })).to.throw(
      RangeError,
      /the source has 50. Lower the batch size/,
    );
    expect(() => trainingBatches(store, { ...options, step: 7 })).to.throw(RangeError, /step up to 6/);
    expect(() => trainingBatches(store, { ...options, epoch: -1 })).to.throw(RangeError, /epoch/);
    for (const wrong of [{ prefetch: 0 }, { concurrency: 0 }, { outputSize: 0 }, { maxBadShare: 2 }]) {
      expect(() => trainingBatches(files, { ...options, ...wrong })).to.throw(RangeError, Object.keys(wrong)[0]);
    }
  });

  it('takes generated pictures', async () => {
    const shapes = generateShapes({ count: 24, size: 16 });
    const [batch] = await collect(trainingBatches(shapes, { batchSize: 24, seed: 0, epochs: 1 }));
    expect([...batch.labels!].sort((a, b) => a - b)).to.deep.equal([...shapes.labels!].sort((a, b) => a - b));
  });
});
