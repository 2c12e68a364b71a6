import { expect } from 'chai';
import { appendFileSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { eventFiles, readJsonl } from '../../lib/io';
import { Metrics } from '../../lib/train/metrics';
import { readEvents } from '../io/event-reader';

const diagnosis = {
  gradients: {
    total: {
      norm: { '1': 3, '0.5': 2 },
      rest: { '0.5': 1 },
      ratio: { '0.5': 0.5 },
      own: { '1': 4, '0.5': 6 },
      cosine: { '1|0.5': -0.25 },
    },
    parameters: { '1': 10, '0.5': 4 },
    layers: { conv1: { norm: { '1': 3 } } },
  },
  embeddings: { '1': { std: 0.125, rank: 7.5 }, '0.5': { std: 0, rank: null } },
  weights: { '1': 'AAAA' },
};
const step = (n: number) => ({
  step: n,
  epoch: n / 2,
  loss: n + 0.5,
  losses: { '1': n, '0.25': 2 * n },
  lr: 0.5,
  ms: 250,
  images_per_s: 64,
});

describe('Metrics', () => {
  let folder: string;
  let file: string;
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'slimclr-metrics-'));
    file = join(folder, 'metrics.jsonl');
  });
  afterEach(() => rmSync(folder, { recursive: true }));

  function log(metrics: Metrics, ...records: Parameters<Metrics['write']>[0][]): void {
    for (const record of records) metrics.write(record);
    metrics.flush();
    metrics.close();
  }

  const logged = () => {
    const files = eventFiles(folder);
    expect(files).to.have.length(1);
    return readEvents(files[0])
      .slice(2)
      .map(({ step, time, scalars }) => ({ step, time, scalars }));
  };
  const steps = () => logged().map((event) => [event.step, Object.keys(event.scalars)[0]]);

  it('writes the numbers of every line under tags that TensorBoard groups', () => {
    log(Metrics.create(file), { step: 0, epoch: 0, knn: { '1': 0.25, '0.25': 0.5 } }, step(1), { step: 2, diagnosis });
    expect(logged().map(({ step, scalars }) => ({ step, scalars }))).to.deep.equal([
      { step: 0, scalars: { 'knn/1': 0.25, 'knn/0.25': 0.5 } },
      {
        step: 1,
        scalars: {
          'loss/total': 1.5,
          'loss/1': 1,
          'loss/0.25': 2,
          lr: 0.5,
          'speed/ms_per_step': 250,
          'speed/images_per_s': 64,
        },
      },
      {
        step: 2,
        scalars: {
          'gradient_ratio/0.5': 0.5,
          'gradient_own_norm/1': 4,
          'gradient_own_norm/0.5': 6,
          'gradient_cosine/1_0.5': -0.25,
          'embedding_std/1': 0.125,
          'embedding_std/0.5': 0,
          'embedding_rank/1': 7.5,
        },
      },
    ]);
  });

  it('shows no step twice and leaves none out after resuming, at the times that they were logged', () => {
    log(Metrics.create(file), { step: 0, knn: { '1': 0.5 } }, step(1), step(2), { step: 2, diagnosis }, step(3));
    const before = logged();
    appendFileSync(file, '{"step":4,"lo'); // cut off by a kill
    log(Metrics.resume(file, 2), step(3), step(4));
    expect(steps()).to.deep.equal([
      [0, 'knn/1'],
      [1, 'loss/total'],
      [2, 'loss/total'],
      [2, 'gradient_ratio/0.5'],
      [3, 'loss/total'],
      [4, 'loss/total'],
    ]);
    expect(logged().slice(0, 4)).to.deep.equal(before.slice(0, 4));
    expect(logged().map(({ time }) => time)).to.deep.equal(readJsonl(file).map(({ time }) => time));
  });

  it('makes the events of a run that had none', () => {
    writeFileSync(
      file,
      [step(1), { note: 'no step' }, { step: 2, diagnosis: null }].map((r) => JSON.stringify(r) + '\n').join(''),
    );
    log(Metrics.resume(file, 2), step(3));
    expect(steps()).to.deep.equal([
      [1, 'loss/total'],
      [3, 'loss/total'],
    ]);
  });

  it('starts anew on create, and leaves out what is no finite number', () => {
    log(Metrics.create(file), step(1));
    log(Metrics.create(file), { ...step(2), ms: Infinity, lr: NaN, losses: {} });
    expect(logged().map(({ scalars }) => scalars)).to.deep.equal([{ 'loss/total': 2.5, 'speed/images_per_s': 64 }]);
    log(Metrics.resume(file, 2)); // where JSON has strings in their place
    expect(logged().map(({ scalars }) => scalars)).to.deep.equal([{ 'loss/total': 2.5, 'speed/images_per_s': 64 }]);
  });
});
