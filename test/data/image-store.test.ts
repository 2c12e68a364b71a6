import { expect } from 'chai';
import { mkdir, mkdtemp, readdir, rm, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import sharp from 'sharp';
import {
  DataError,
  decodeImage,
  estimateBytes,
  generateShapes,
  limitFiles,
  loadImages,
  openImages,
  scanImageFolder,
  writeShapes,
  type ImageFiles,
} from '../../lib/data';

describe('image store', function () {
  this.timeout(20_000);
  let folder: string;
  let train: ImageFiles;
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'slimclr-store-'));
    await writeShapes(folder, { count: 48, testCount: 12, size: 16, seed: 5 });
    train = (await scanImageFolder(folder)).train;
  });
  afterEach(() => rm(folder, { recursive: true }));

  const failureOf = (work: Promise<unknown>): Promise<Error> =>
    work.then(
      () => expect.fail('no error'),
      (error: Error) => error,
    );

  it('packs pictures of any sizes, in order, with labels and paths', async () => {
    await sharp({ create: { width: 7, height: 5, channels: 3, background: '#010203' } })
      .png()
      .toFile(train.paths[3]);
    const { store, bad } = await loadImages(train);
    expect(bad).to.deep.equal([]);
    expect(store.paths).to.deep.equal(train.paths);
    expect(store.labels).to.deep.equal(train.labels);
    expect([...store.sizes.subarray(4, 8)]).to.deep.equal([16, 16, 5, 7]);
    for (const i of [0, 3, 47]) {
      const image = await decodeImage(train.paths[i]);
      const begin = Number(store.offsets[i]);
      expect(store.pixels.subarray(begin, begin + image.pixels.length)).to.deep.equal(Uint8Array.from(image.pixels));
    }
    expect(store.pixels.length).to.equal(47 * 16 * 16 * 3 + 7 * 5 * 3);
  });

  it('is the same whatever the concurrency, and tells of its progress', async () => {
    const seen: number[] = [];
    const one = await loadImages(train, { concurrency: 1, onProgress: (done, total) => seen.push(done / total) });
    const many = await loadImages(train, { concurrency: 16 });
    expect(many).to.deep.equal(one);
    expect(seen).to.have.length(48);
    expect(seen.at(-1)).to.equal(1);
  });

  it('leaves out bad files up to the share, by name', async () => {
    await writeFile(train.paths[2], 'text');
    await truncate(train.paths[10], 60);
    await writeFile(train.paths[11], '');
    await rm(train.paths[47]);
    const told: string[] = [];
    const { store, bad } = await loadImages(train, { maxBadShare: 4 / 48, onBad: ({ file }) => told.push(file) });
    const gone = [2, 10, 11, 47];
    expect(bad.map(({ file }) => file)).to.deep.equal(gone.map((i) => train.paths[i]));
    expect(told).to.deep.equal(bad.map(({ file }) => file));
    expect(bad[0].reason).to.match(/unsupported/);
    expect(store.paths).to.deep.equal(train.paths.filter((_, i) => !gone.includes(i)));
    expect(store.labels).to.deep.equal(train.labels!.filter((_, i) => !gone.includes(i)));
    expect(store.offsets.length).to.equal(44);
  });

  it('fails beyond the share, naming the files', async () => {
    await writeFile(train.paths[2], 'text');
    const strict = await failureOf(loadImages(train));
    expect(strict).to.be.instanceOf(DataError);
    expect(strict.message)
      .to.match(/1 of 48 files cannot be decoded, allowed are 0 \(1 %\)/)
      .and.include(train.paths[2]);
    await writeFile(train.paths[3], '');
    const second = await failureOf(loadImages(train, { maxBadShare: 1 / 48 }));
    expect(second.message).to.include(train.paths[2]).and.include(train.paths[3]);
  });

  it('fails when no file is good, and for a share that is none', async () => {
    for (const path of train.paths) await writeFile(path, 'text');
    expect((await failureOf(loadImages(train, { maxBadShare: 1 }))).message).to.match(
      /none of 48 files is a picture: .*unsupported/,
    );
    for (const maxBadShare of [-0.1, 1.1, NaN])
      expect(await failureOf(loadImages(train, { maxBadShare }))).to.be.instanceOf(RangeError);
  });

  it('estimates its size and stays on the disk beyond maxBytes', async () => {
    expect(await estimateBytes(train)).to.equal(48 * 16 * 16 * 3);
    expect(await estimateBytes(train, { shrinkTo: 8 })).to.equal(48 * 8 * 8 * 3);
    expect((await openImages(train)).source).to.have.property('pixels');
    expect((await openImages(train, { maxBytes: 48 * 16 * 16 * 3 - 1 })).source).to.equal(train);
    expect((await openImages(train, { maxBytes: 48 * 8 * 8 * 3, shrinkTo: 8 })).source)
      .to.have.property('pixels')
      .with.length(48 * 8 * 8 * 3);
  });

  it('limits to a random subset that depends on the seed alone', () => {
    const some = limitFiles(train, 10, 1);
    expect(some).to.deep.equal(limitFiles(train, 10, 1));
    expect(some.paths).to.not.deep.equal(limitFiles(train, 10, 2).paths);
    expect(new Set(some.paths).size).to.equal(10);
    some.paths.forEach((path, i) => expect(some.labels![i]).to.equal(train.labels![train.paths.indexOf(path)]));
    const more = limitFiles(train, 11, 1).paths;
    expect(
      some.paths.every((path) => more.includes(path)),
      'a smaller subset is part of a larger one',
    ).to.equal(true);
    expect(limitFiles(train, 48, 1)).to.equal(train);
    expect(limitFiles({ ...train, labels: null }, 3, 1).labels).to.equal(null);
    for (const limit of [0, -1, 1.5, NaN]) expect(() => limitFiles(train, limit, 1)).to.throw(RangeError, /limit/);
  });

  it('writeShapes replaces earlier pictures as a whole, and touches no other files', async () => {
    const parent = await mkdtemp(join(tmpdir(), 'slimclr-shapes-'));
    try {
      const dir = join(parent, 'pictures');
      await mkdir(`${dir}.tmp`);
      await writeFile(join(`${dir}.tmp`, 'notes'), '');
      const options = { count: 24, testCount: 12, size: 16 };
      await writeShapes(dir, options);
      await writeShapes(dir, { ...options, count: 12 });
      const { train, test } = await scanImageFolder(dir);
      expect([train.paths.length, test!.paths.length]).to.deep.equal([12, 12]);
      await writeFile(join(parent, 'notes'), '');
      await writeFile(join(dir, 'notes'), '');
      for (const folder of [parent, dir]) {
        const error = await writeShapes(folder, options).then(
          () => expect.fail('wrote'),
          (e: Error) => e,
        );
        expect(error.message).to.match(/^\[shapes\] .* holds other files \(notes, …\)\. Choose another/);
      }
      expect(await readdir(parent)).to.deep.equal(['notes', 'pictures', 'pictures.tmp']);
      expect(await readdir(join(parent, 'pictures.tmp'))).to.deep.equal(['notes']);
      expect((await readdir(dir)).sort()).to.deep.equal(['notes', 'shapes.json', 'test', 'train']);
    } finally {
      await rm(parent, { recursive: true });
    }
  });

  it('writeShapes writes what generateShapes draws', async () => {
    const drawn = generateShapes({ count: 60, size: 16, seed: 5 });
    const { test } = await scanImageFolder(folder);
    expect([train.paths.length, test!.paths.length]).to.deep.equal([48, 12]);
    const at = (files: ImageFiles, label: number, name: string): string =>
      files.paths.find(
        (path, i) => files.labels![i] === files.classes.indexOf(drawn.classes[label]) && basename(path) === name,
      )!;
    const picture = (i: number): Uint8Array => drawn.pixels.subarray(i * 768, (i + 1) * 768);
    const from = async (path: string): Promise<Uint8Array> => Uint8Array.from((await decodeImage(path)).pixels);
    expect(await from(at(train, 1, '000013.png'))).to.deep.equal(picture(13));
    expect(await from(at(test!, 2, '000002.png'))).to.deep.equal(picture(50));
  });
});
