import { expect } from 'chai';
import { collectGarbage } from '../garbage';
import { Matrix, SingularValueDecomposition } from 'ml-matrix';
import { cpSync, mkdirSync, readFileSync, readdirSync, renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { scanImageFolder, trainingBatches } from '../../lib/data';
import { memoryStats, scope } from '../../lib/tensor';
import {
  landscape,
  loadPictures,
  pretrain,
  readCheckpoint,
  Views,
  type RunConfig,
  type Settings,
} from '../../lib/train';
import { withPrefix } from '../../lib/train/checkpoint';
import { resolveConfig } from '../../lib/train/config';
import { findPlane } from '../../lib/train/landscape';
import { makeMethod } from '../../lib/train/method';
import { stepInput } from '../../lib/train/views';
import { newFolder, removeFolders, tinyPictures, tinySettings } from './tiny-run';

describe('a loss landscape', function () {
  this.timeout(300_000);
  let data: string;
  let run: string; // of MoCo v2, three epochs, each kept
  const train = async (changes: Partial<Settings>, out = newFolder()) => {
    await pretrain({ ...tinySettings(data), evalEvery: 0, epochs: 3, keepEvery: 1, ...changes }, { out });
    return out;
  };
  before(async () => {
    data = await tinyPictures();
    run = await train({});
  });
  after(removeFolders);

  const kept = (folder: string) => readdirSync(join(folder, 'checkpoints')).sort();
  const filesOf = (folder: string) => [
    ...['epoch-0', 'epoch-1', 'epoch-2'].map((name) => join(folder, 'checkpoints', `${name}.safetensors`)),
    join(folder, 'checkpoint.safetensors'),
  ];
  const configOf = (folder: string) => {
    const settings = JSON.parse(readFileSync(join(folder, 'config.json'), 'utf8')) as RunConfig;
    return resolveConfig(settings, settings.image);
  };
  const namesOf = (config: RunConfig) => {
    const method = makeMethod(config, 'cpu');
    const names = [...method.slices().keys()];
    method.dispose();
    return names;
  };
  const failure = (folder: string) =>
    landscape({ run: folder, grid: 3, device: 'cpu' }).then(
      () => expect.fail('made a landscape'),
      (error: Error) => error,
    );

  it('is of checkpoints that a run keeps, the same ones where it was resumed', async () => {
    expect(kept(run)).to.deep.equal([0, 1, 2, 3].map((epoch) => `epoch-${epoch}.safetensors`));
    expect(readFileSync(join(run, 'checkpoints/epoch-3.safetensors'))).to.deep.equal(
      readFileSync(join(run, 'checkpoint.safetensors')),
    );
    const out = newFolder();
    const controller = new AbortController();
    const settings = { ...tinySettings(data), evalEvery: 0, epochs: 3, keepEvery: 1 };
    const stop = {
      signal: controller.signal,
      report: (e: { type: string; step?: number }) => {
        if (e.type === 'progress' && e.step === 4) controller.abort();
      },
    };
    expect((await pretrain(settings, { out, ...stop })).interrupted).to.equal(true);
    await pretrain({}, { out, resume: true });
    for (const name of kept(run)) {
      expect(
        readFileSync(join(out, 'checkpoints', name)).equals(readFileSync(join(run, 'checkpoints', name))),
      ).to.equal(true);
    }
  });

  it('lies in the plane of the first two components: axes of length 1 at a right angle, variances as by SVD', async () => {
    const names = namesOf(configOf(run));
    const { axes, variance, path } = await findPlane(filesOf(run), names, 'module.encoder_q.');
    const dot = (a: Map<string, Float64Array>, b: Map<string, Float64Array>) =>
      names.reduce((sum, name) => sum + a.get(name)!.reduce((part, v, i) => part + v * b.get(name)![i], 0), 0);
    expect(dot(axes[0], axes[0])).to.be.closeTo(1, 1e-9);
    expect(dot(axes[1], axes[1])).to.be.closeTo(1, 1e-9);
    expect(dot(axes[0], axes[1])).to.be.closeTo(0, 1e-9);

    const rows: number[][] = [];
    for (const file of filesOf(run)) {
      const { tensors } = await readCheckpoint(file);
      rows.push(names.flatMap((name) => Array.from(tensors.get(`module.encoder_q.${name}`)!.data as Float32Array)));
    }
    const last = rows[3];
    const differences = new Matrix(rows.map((row) => row.map((v, i) => v - last[i])));
    const squares = new SingularValueDecomposition(differences.clone().center('column').transpose()).diagonal.map(
      (s) => s * s,
    );
    const all = squares.reduce((a, b) => a + b);
    expect(variance[0]).to.be.closeTo(squares[0] / all, 1e-9);
    expect(variance[1]).to.be.closeTo(squares[1] / all, 1e-9);
    // Points are seen as the axes see them.
    const axis = names.flatMap((name) => Array.from(axes[1].get(name)!));
    rows.forEach((row, t) => {
      expect(path[t][1]).to.be.closeTo(
        row.reduce((sum, v, i) => sum + (v - last[i]) * axis[i], 0),
        1e-9,
      );
    });
  });

  /** The losses of a run's last weights, moved along an axis, computed without lib/train/landscape.ts. */
  async function direct(folder: string, pictures: number, move: (name: string, values: Float32Array) => Float32Array) {
    const config = configOf(folder);
    const { train } = await loadPictures(
      { ...(await scanImageFolder(data)), test: null },
      { image: config.image, limit: pictures, seed: config.seed },
      () => {},
    );
    const method = makeMethod(config, 'cpu');
    const views = new Views(train, config, 'cpu');
    const { tensors } = await readCheckpoint(join(folder, 'checkpoint.safetensors'));
    const state = withPrefix(tensors, 'module.');
    const moved = new Map(
      [...state].map(([name, t]) => {
        const shared = name.replace(/^encoder_q\./, '');
        const data = t.data instanceof Float32Array && !name.startsWith('encoder_k') ? move(shared, t.data) : t.data;
        return [name, { ...t, data }];
      }),
    );
    method.loadState(moved);
    let losses: number[] = [];
    for await (const batch of trainingBatches(train, { batchSize: pictures, seed: config.seed, epochs: 1 })) {
      const { perWidth } = scope(() => {
        const { x, target } = stepInput(views, config.method, batch, 0);
        return method.step(x, target, { slim: true, first: false });
      });
      losses = Array.from(perWidth.dataSync() as Float32Array);
      perWidth.dispose();
    }
    views.dispose();
    method.dispose();
    return losses;
  }

  for (const changes of [
    {},
    { method: 'moco-v3', mlpDim: 8, dim: 8 },
    { method: 'simclr', mlpDim: 8 },
    { method: 'supervised', dim: 4 },
  ] as Partial<Settings>[]) {
    it(`has the run's own loss at the last weights: ${changes.method ?? 'moco-v2'}`, async () => {
      const folder = changes.method ? await train({ ...changes, distill: 'similarity' }) : run;
      await collectGarbage();
      const before = memoryStats('cpu').tensors;
      const { landscape: found } = await landscape({ run: folder, grid: 3, limit: 20, device: 'cpu' });
      expect(memoryStats('cpu').tensors).to.equal(before);
      expect(JSON.parse(readFileSync(join(folder, 'landscape.json'), 'utf8'))).to.deep.equal(found);
      const [full, half] = await direct(folder, 20, (_, values) => values);
      expect(found.final['1']).to.be.closeTo(full, 1e-5);
      expect(found.final['0.5']).to.be.closeTo(half, 1e-5);
      expect(found.trajectory.map(({ epoch }) => epoch)).to.deep.equal([0, 1, 2, 3]);
      expect([found.trajectory[3].x, found.trajectory[3].y]).to.deep.equal([0, 0]);
      expect(found.losses['0.5'].map((row) => row.length)).to.deep.equal([3, 3, 3]);
    });
  }

  it('has the loss of moved weights elsewhere', async () => {
    const { landscape: found } = await landscape({ run, grid: 3, limit: 20, device: 'cpu' });
    const { axes } = await findPlane(filesOf(run), namesOf(configOf(run)), 'module.encoder_q.');
    const [a, b] = [found.x[2], found.y[0]];
    const [full, half] = await direct(run, 20, (name, values) => {
      const [first, second] = axes.map((axis) => axis.get(name));
      return first && second ? values.map((v, i) => v + a * first[i] + b * second[i]) : values;
    });
    expect(found.losses['1'][0][2]).to.be.closeTo(full, 1e-4);
    expect(found.losses['0.5'][0][2]).to.be.closeTo(half, 1e-4);
    expect(full).to.not.be.closeTo(found.final['1']!, 1e-3);
  });

  it('needs three checkpoints of one run, and says what is missing', async () => {
    expect((await failure(join(run, 'nowhere'))).message).to.match(/does not exist; give the folder of a run/);
    expect((await failure(newFolder())).message).to.match(/holds no run/);
    const few = newFolder();
    cpSync(run, few, { recursive: true });
    for (const epoch of [0, 1]) rmSync(join(few, `checkpoints/epoch-${epoch}.safetensors`));
    expect((await failure(few)).message).to.match(/at least 3 checkpoints.*found 2 in .*--keep-every/);
    const other = await train({ seed: 5, keepEvery: 0 });
    mkdirSync(join(other, 'checkpoints'));
    for (const name of kept(run)) cpSync(join(run, 'checkpoints', name), join(other, 'checkpoints', name));
    const { message } = await failure(other);
    expect(message).to.match(/epoch-0.safetensors belongs to another run: seed \(5 now, 0 in the checkpoint\)/);
    renameSync(join(other, 'checkpoints'), join(other, 'aside'));
  });
});
