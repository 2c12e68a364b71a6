import { expect } from 'chai';
import {
  loadImages,
  scanImageFolder,
  splitBatch,
  trainingBatches,
  writeShapes,
  type ImageFiles,
  type ImageSource,
} from '../../lib/data';
import { scope } from '../../lib/tensor';
import { normalisation, Views, type ViewSettings } from '../../lib/train';
import { newFolder, removeFolders } from './tiny-run';

describe('views', () => {
  let files: ImageFiles;
  before(async () => {
    const folder = newFolder();
    await writeShapes(folder, { count: 24, testCount: 12, size: 16 });
    files = (await scanImageFolder(folder)).train;
  });
  after(removeFolders);

  const settings = (change: Partial<ViewSettings> = {}): ViewSettings => ({
    recipe: 'cifar',
    image: 8,
    seed: 3,
    precision: 'fp32',
    ...change,
  });
  type Pair = { query: Float32Array; key: Float32Array };

  /** The views of one batch of 12, in so many parts. */
  async function draw(source: ImageSource, parts: number, change: Partial<ViewSettings> = {}): Promise<Pair[]> {
    const views = new Views(source, settings(change), 'cpu');
    try {
      for await (const batch of trainingBatches(source, { batchSize: 12, seed: 1, epochs: 1 })) {
        return splitBatch(batch, parts).map((part, i) =>
          scope(() => {
            const { query, key } = views.training(part, 100 + i * part.indices.length);
            return {
              query: (query.dataSync() as Float32Array).slice(),
              key: (key.dataSync() as Float32Array).slice(),
            };
          }),
        );
      }
      throw new Error('no batch');
    } finally {
      views.dispose();
    }
  }
  const join = (parts: Pair[], which: keyof Pair) => parts.flatMap((part) => Array.from(part[which]));

  for (const kind of ['in memory', 'decoded as needed'] as const) {
    it(`of a batch's parts are those of the batch: pictures ${kind}`, async () => {
      const source = kind === 'in memory' ? (await loadImages(files)).store : files;
      const [whole, parts] = [await draw(source, 1), await draw(source, 3)];
      expect(parts).to.have.length(3);
      for (const which of ['query', 'key'] as const) expect(join(parts, which)).to.deep.equal(join(whole, which));
    });
  }

  for (const recipe of Object.keys(normalisation) as ViewSettings['recipe'][]) {
    it(`are drawn by the recipe ${recipe}, each view for itself`, async () => {
      const [{ query, key }] = await draw(files, 1, { recipe });
      expect(query.every(Number.isFinite)).to.equal(true);
      expect(query).to.not.deep.equal(key);
      expect(await draw(files, 1, { recipe })).to.deep.equal([{ query, key }]);
    });
  }

  it('show as much of a picture, and as often without colour, as the settings say', async () => {
    const usual = await draw(files, 1, { cropMin: 0.2, grayP: 0.2 });
    expect(usual).to.deep.equal(await draw(files, 1));
    const [{ query }] = await draw(files, 1, { grayP: 1, cropMin: 1 });
    const { mean, std } = normalisation.cifar;
    const value = (n: number, c: number, at: number) => query[(n * 3 + c) * 64 + at] * std[c] + mean[c];
    for (let n = 0; n < 12; n++)
      for (let at = 0; at < 64; at++) expect(value(n, 0, at)).to.be.closeTo(value(n, 2, at), 1e-5);
  });

  it('with labels are the first of both views, beside the classes', async () => {
    const views = new Views(files, settings(), 'cpu');
    for await (const batch of trainingBatches(files, { batchSize: 12, seed: 1, epochs: 1 })) {
      scope(() => {
        const { query, labels } = views.labelled(batch, 100);
        expect(labels.dtype).to.equal('int32');
        expect(Array.from(labels.dataSync() as Int32Array)).to.deep.equal(Array.from(batch.labels!));
        expect(query.dataSync()).to.deep.equal(views.training(batch, 100).query.dataSync());
      });
      break;
    }
    views.dispose();
  });

  it('of MoCo v3 differ: the first always blurred, the second seldom', async () => {
    // Blur takes away differences of neighbours.
    const roughness = (x: Float32Array) => x.reduce((sum, v, i) => (i % 16 ? sum + Math.abs(v - x[i - 1]) : sum), 0);
    let [query, key] = [0, 0];
    for (let seed = 0; seed < 12; seed++) {
      const [pair] = await draw(files, 1, { recipe: 'mocov3', image: 16, seed });
      query += roughness(pair.query);
      key += roughness(pair.key);
    }
    expect(query).to.be.below(0.85 * key);
  });
});
