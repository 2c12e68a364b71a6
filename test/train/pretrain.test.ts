import { expect } from 'chai';
import { collectGarbage } from '../garbage';
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { eventFiles, readJsonl } from '../../lib/io';
import { memoryStats } from '../../lib/tensor';
import { pretrain, readCheckpoint, type RunEvent, type Settings } from '../../lib/train';
import { readEvents } from '../io/event-reader';
import {
  checkpointBytes,
  newFolder,
  removeFolders,
  startCli,
  tinyOptions,
  tinyPictures,
  tinySettings,
} from './tiny-run';

/** What an asynchronous call rejects with. */
async function failure(promise: Promise<unknown>): Promise<Error> {
  return promise.then(
    () => expect.fail('finished without an error'),
    (error: Error) => error,
  );
}

describe('pretrain', function () {
  this.timeout(300_000);
  let data: string;
  let straight: string; // a run from beginning to end, to compare with
  const events: RunEvent[] = [];

  before(async () => {
    data = await tinyPictures();
    straight = newFolder();
    await pretrain(tinySettings(data), { out: straight, report: (event) => events.push(event) });
  });
  after(removeFolders);

  const run = (changes: Partial<Settings>, out = newFolder()) =>
    pretrain({ ...tinySettings(data), ...changes }, { out });

  it('leaves the settings, the metrics and the checkpoint, and nothing else', () => {
    const [events, ...others] = [basename(eventFiles(straight)[0]), 'checkpoint.safetensors', 'config.json'];
    expect(readdirSync(straight).sort()).to.deep.equal([...others, events, 'metrics.jsonl']);
    const config = JSON.parse(readFileSync(join(straight, 'config.json'), 'utf8')) as Settings;
    expect(config).to.include({ arch: 'resnet20', recipe: 'cifar', image: 16, lr: 0.06, epochs: 2, slowStart: 1 });
  });

  it('logs the losses of the widths that took part, and kNN before, during and after', () => {
    const lines = readJsonl(join(straight, 'metrics.jsonl'));
    const steps = lines.filter((line) => 'loss' in line);
    expect(steps.map((line) => line.step)).to.deep.equal([1, 2, 3, 4, 5, 6]);
    expect(Object.keys(steps[2].losses as object)).to.deep.equal(['1']);
    expect(Object.keys(steps[3].losses as object)).to.have.members(['1', '0.5']);
    for (const line of steps) expect(line).to.include.keys('epoch', 'lr', 'ms', 'images_per_s');
    const evaluations = lines.filter((line) => 'knn' in line);
    expect(evaluations.map((line) => line.epoch)).to.deep.equal([0, 1, 2]);
    for (const line of evaluations) expect(line.knn).to.have.keys('1', '0.5');
  });

  it('logs the same for TensorBoard', () => {
    const lines = readJsonl(join(straight, 'metrics.jsonl'));
    const logged = readEvents(eventFiles(straight)[0]).slice(2);
    expect(logged.map(({ step }) => step)).to.deep.equal(lines.map(({ step }) => step));
    const losses = logged.flatMap(({ scalars }) => scalars['loss/total'] ?? []);
    expect(losses).to.deep.equal(lines.flatMap(({ loss }) => (loss === undefined ? [] : Math.fround(loss as number))));
    expect(logged.at(-1)!.scalars).to.have.keys('knn/1', 'knn/0.5');
  });

  it('tells each step, with the loss as the weighted sum of the widths', () => {
    const last = events.filter((event) => event.type === 'step').at(-1)!;
    expect(last.loss).to.be.closeTo(1.5 * last.losses['1'] + last.losses['0.5'], 1e-4 * last.loss);
    expect(events.at(-1)).to.deep.equal({ type: 'end' });
  });

  it('tells the time per step of several, also where the last line follows after one, and no evaluation’s', async () => {
    const told: number[] = [];
    let now = 0;
    performance.now = () => now;
    try {
      await pretrain(
        { ...tinySettings(data), logEvery: 5 },
        {
          out: newFolder(),
          report: (event) => {
            if (event.type === 'progress') now += event.step === 5 ? 1 : 100; // of the step after this one
            if (event.type === 'knn') now += 10_000;
            if (event.type === 'step') told.push(event.ms);
          },
        },
      );
    } finally {
      Reflect.deleteProperty(performance, 'now'); // its own, of the prototype, again
    }
    // After steps 3, 5 and 6. Step 4 begins the phase of all widths, and an epoch: its time was the evaluation's.
    expect(told.map(Math.round)).to.deep.equal([200 / 3, 100 / 2, 101 / 3].map(Math.round));
  });

  it('computes the same again', async () => {
    const out = newFolder();
    await run({}, out);
    expect(checkpointBytes(out).equals(checkpointBytes(straight))).to.equal(true);
  });

  it('computes something else from another seed', async () => {
    const out = newFolder();
    await run({ seed: 1 }, out);
    expect(checkpointBytes(out).equals(checkpointBytes(straight))).to.equal(false);
  });

  for (const stopAfter of [0, 2, 3, 5]) {
    it(`goes on exactly where it was stopped: after step ${stopAfter}`, async () => {
      const out = newFolder();
      const controller = new AbortController();
      const stop = (event: RunEvent) => {
        // The step after is already under way when this one's loss is told: it is finished and saved, too.
        if (stopAfter === 0 || (event.type === 'progress' && event.step === stopAfter)) controller.abort();
      };
      const first = await pretrain(tinySettings(data), { out, signal: controller.signal, report: stop });
      expect(first.interrupted).to.equal(true);
      expect(first.step).to.be.within(stopAfter, stopAfter + 1);
      const second = await pretrain({}, { out, resume: true });
      expect(second).to.include({ interrupted: false, step: 6 });
      expect(checkpointBytes(out).equals(checkpointBytes(straight))).to.equal(true);
      const without = (folder: string) =>
        readJsonl(join(folder, 'metrics.jsonl')).map(({ ms: _, images_per_s: __, time: ___, ...line }) => line);
      expect(without(out)).to.deep.equal(without(straight));
      const steps = (folder: string) =>
        eventFiles(folder)
          .flatMap(readEvents)
          .map(({ step, scalars }) => [step, scalars['loss/total']]);
      expect(steps(out)).to.deep.equal(steps(straight));
    });
  }

  for (const optimizer of ['nesterov', 'lars', 'adamw'] as const) {
    it(`goes on exactly with ${optimizer}, a batch in parts, clipping and another rate for the sub-networks`, async () => {
      const settings: Settings = {
        ...tinySettings(data),
        optimizer,
        accumulate: 2,
        clipGrad: 0.5,
        slimLr: 0.02,
        lrMode: 'step',
        milestones: [1.5],
        evalEvery: 0,
      };
      const [whole, out] = [newFolder(), newFolder()];
      await pretrain(settings, { out: whole });
      const controller = new AbortController();
      const stop = (event: RunEvent) => {
        if (event.type === 'progress' && event.step === 2) controller.abort();
      };
      expect((await pretrain(settings, { out, signal: controller.signal, report: stop })).interrupted).to.equal(true);
      await pretrain({}, { out, resume: true });
      expect(checkpointBytes(out).equals(checkpointBytes(whole))).to.equal(true);
      const rates = readJsonl(join(whole, 'metrics.jsonl')).map((line) => line.lr as number);
      expect(rates.slice(3)).to.deep.equal([0.02, 0.02, 0.02 * 0.1]);
      const names = [...(await readCheckpoint(join(out, 'checkpoint.safetensors'))).tensors.keys()];
      const kinds = new Set(names.flatMap((name) => /^optimizer\.([a-z_]+)\./.exec(name)?.[1] ?? []));
      expect([...kinds].sort()).to.deep.equal(optimizer === 'adamw' ? ['exp_avg', 'exp_avg_sq', 'step'] : ['momentum']);
    });
  }

  it('computes the same whatever the largest norm, where no gradient reaches it', async () => {
    const weights = async (changes: Partial<Settings>) => {
      const out = newFolder();
      await run({ evalEvery: 0, ...changes }, out);
      const { tensors } = await readCheckpoint(join(out, 'checkpoint.safetensors'));
      return Buffer.from(tensors.get('module.encoder_q.conv1.weight')!.data.buffer);
    };
    const plain = await weights({});
    expect((await weights({ clipGrad: 1e6 })).equals(plain)).to.equal(true);
    expect((await weights({ clipGrad: 1e-3 })).equals(plain)).to.equal(false);
  });

  it('goes on exactly after a kill in the middle of an epoch', async () => {
    const out = newFolder();
    const { child, finished, sees } = startCli(['pretrain', ...tinyOptions(data), '--out', out]);
    await sees('step 5/6');
    child.kill('SIGKILL');
    expect((await finished).signal).to.equal('SIGKILL');
    await pretrain({}, { out, resume: true });
    expect(checkpointBytes(out).equals(checkpointBytes(straight))).to.equal(true);
  });

  it('is byte for byte the same after six epochs as after three, kill -9 and three more', async () => {
    const [whole, out] = [newFolder(), newFolder()];
    const longer = { epochs: 6, slowStart: 2 };
    await pretrain({ ...tinySettings(data), ...longer }, { out: whole });
    const words = ['--epochs', '6', '--slow-start', '2', '--out', out];
    const { child, finished, sees } = startCli(['pretrain', ...tinyOptions(data), ...words]);
    await sees('step 10/18'); // the first of the fourth epoch
    child.kill('SIGKILL');
    expect((await finished).signal).to.equal('SIGKILL');
    const { step } = (await readCheckpoint(join(out, 'checkpoint.safetensors'))).progress;
    expect(step).to.be.within(9, 17);
    await pretrain({}, { out, resume: true });
    expect(checkpointBytes(out).equals(checkpointBytes(whole))).to.equal(true);
  });

  it('has nothing left to do when it is resumed at its end', async () => {
    const before = checkpointBytes(straight);
    const result = await pretrain({}, { out: straight, resume: true });
    expect(result).to.include({ interrupted: false, step: 6 });
    expect(result.knn).to.have.keys('1', '0.5');
    expect(result.untrained).to.have.keys('1', '0.5');
    expect(checkpointBytes(straight).equals(before)).to.equal(true);
  });

  it('refuses to go on with other settings, by name and value', async () => {
    const error = await failure(pretrain({ lr: 0.5, widths: [1] }, { out: straight, resume: true }));
    expect(error.name).to.equal('ConfigError');
    expect(error.message).to.include('lr (0.5 now, 0.06 in the checkpoint)').and.to.include('widths ([1] now, [1,0.5]');
  });

  it('goes on with other free settings', async () => {
    await pretrain({ evalEvery: 0, logEvery: 5, checkpointEvery: 2 }, { out: straight, resume: true });
  });

  it('refuses to go on with other pictures', async () => {
    const moved = join(data, 'train/star/000003.png');
    renameSync(moved, join(data, 'train/star/other.png'));
    try {
      expect((await failure(pretrain({}, { out: straight, resume: true }))).message).to.match(
        /not those that the run began with/,
      );
    } finally {
      renameSync(join(data, 'train/star/other.png'), moved);
    }
  });

  it('refuses to go on where nothing is, and makes no folder', async () => {
    const out = join(newFolder(), 'no-run');
    expect((await failure(pretrain(tinySettings(data), { out, resume: true }))).message).to.match(
      /holds no checkpoint/,
    );
    expect(existsSync(out)).to.equal(false);
  });

  it('refuses to begin where a config.json of something else is, and leaves it alone', async () => {
    const out = newFolder();
    writeFileSync(join(out, 'config.json'), '{"port": 8080}');
    expect((await failure(run({}, out))).message).to.match(/config\.json is not of a run .* choose another folder/);
    expect(readFileSync(join(out, 'config.json'), 'utf8')).to.equal('{"port": 8080}');
  });

  it('refuses to begin where a run is, and leaves that one alone', async () => {
    const before = checkpointBytes(straight);
    expect((await failure(run({}, straight))).message).to.match(/already holds a run; go on with --resume/);
    expect(checkpointBytes(straight).equals(before)).to.equal(true);
  });

  it('refuses a second run in the same folder at the same time', async () => {
    const out = newFolder();
    const { child, finished, sees } = startCli(['pretrain', ...tinyOptions(data), '--epochs', '1000', '--out', out]);
    await sees('step 1/');
    const error = await failure(run({}, out));
    child.kill('SIGTERM');
    expect(error.name).to.equal('RunLockError');
    expect(error.message).to.include(String(child.pid));
    expect((await finished).code).to.equal(130);
  });

  it('stops at a loss that is not finite, with the step and the widths, and keeps the checkpoint', async () => {
    const out = newFolder();
    const error = await failure(run({ lr: 1e30, epochs: 4, slowStart: 0, evalEvery: 0, checkpointEvery: 9 }, out));
    expect(error.name).to.equal('RunError');
    expect(error.message).to.match(
      /the loss of step [2-9] \(epoch .*\) is not finite at width 1, 0\.5; the checkpoint of step 0/,
    );
    expect((await readCheckpoint(join(out, 'checkpoint.safetensors'))).progress.step).to.equal(0);
  });

  it('replaces no checkpoint by one with weights that are not finite', async () => {
    const out = newFolder();
    // One step per epoch: the loss of step 1 is still finite, what it makes of the weights is not.
    const error = await failure(run({ lr: 3e38, weightDecay: 100, batch: 48, evalEvery: 0, slowStart: 0 }, out));
    expect(error.message).to.match(/not finite/);
    expect((await readCheckpoint(join(out, 'checkpoint.safetensors'))).progress.step).to.equal(0);
  });

  it('keeps the former checkpoint whole when the disk is full', async () => {
    const out = newFolder();
    await pretrain(tinySettings(data), { out, signal: AbortSignal.abort() });
    const before = checkpointBytes(out);
    // A limit on the size of files stands for a full disk.
    const { finished } = startCli(['pretrain', '--out', out, '--resume'], 'ulimit -f 40');
    const { code, stderr } = await finished;
    expect(code, stderr).to.equal(1);
    expect(stderr).to.match(/error: \[write\].*what was there before is unchanged/s);
    expect(checkpointBytes(out).equals(before)).to.equal(true);
    await pretrain({}, { out, resume: true });
    expect(checkpointBytes(out).equals(checkpointBytes(straight))).to.equal(true);
  });

  it('trains on pictures without classes, without evaluating', async () => {
    const plain = newFolder();
    mkdirSync(join(plain, 'some'));
    for (const name of readdirSync(join(data, 'train/star'))) {
      writeFileSync(join(plain, 'some', name), readFileSync(join(data, 'train/star', name)));
    }
    const out = newFolder();
    const result = await run({ data: plain, batch: 4 }, out);
    expect(result).to.include({ knn: null, chance: null, interrupted: false });
  });

  it('names files that it passes over because they are no pictures by their names', async () => {
    const plain = newFolder();
    for (const name of readdirSync(join(data, 'train/star'))) {
      writeFileSync(join(plain, name), readFileSync(join(data, 'train/star', name)));
    }
    for (let i = 0; i < 7; i++) writeFileSync(join(plain, `${i}.bmp`), '');
    const told: string[] = [];
    const report = (event: RunEvent) => event.type === 'message' && told.push(event.text);
    await pretrain({ ...tinySettings(plain), batch: 4, epochs: 1 }, { out: newFolder(), report });
    expect(told).to.include(
      'passed over 7 files that are no JPEG, PNG or WebP by name: 0.bmp, 1.bmp, 2.bmp, 3.bmp, 4.bmp, …',
    );
  });

  it('says so where the sub-networks would never join', async () => {
    const told: string[] = [];
    const report = (event: RunEvent) => event.type === 'message' && told.push(event.text);
    for (const slowStart of [0.5, 1]) {
      await pretrain({ ...tinySettings(data), epochs: 1, slowStart, evalEvery: 0 }, { out: newFolder(), report });
      const text = 'slow start lasts to the end (slowStart 1): the full network is trained alone';
      expect(told.includes(text)).to.equal(slowStart === 1);
    }
  });

  it('names a batch larger than the set of pictures', async () => {
    expect((await failure(run({ batch: 64 }))).message).to.match(/a batch of 64 needs as many pictures, there are 48/);
  });

  it('needs the folder of pictures before it makes one of its own', async () => {
    const out = join(newFolder(), 'run');
    expect((await failure(run({ data: join(data, 'no') }, out))).message).to.match(/does not exist/);
    expect(existsSync(out)).to.equal(false);
  });

  for (const [what, changes, says] of [
    ['a batch is too large', { batch: 64 }, /needs as many pictures/],
    ['the initial network is none', { init: __filename }, /pretrain\.test\.ts/],
    ['the device is missing', { device: 'cuda:99' }, /cuda/i],
  ] as const) {
    it(`leaves no folder where it cannot begin because ${what}`, async () => {
      const [parent, own] = [newFolder(), newFolder()];
      const out = join(parent, 'runs', 'first');
      expect((await failure(run(changes, out))).message).to.match(says);
      expect(readdirSync(parent)).to.deep.equal([]);
      await failure(run(changes, own));
      expect(readdirSync(own)).to.deep.equal([]); // a folder that was there stays
    });
  }

  it('leaves nothing where too many files are no pictures', async () => {
    const bad = newFolder();
    for (let i = 0; i < 20; i++) writeFileSync(join(bad, `${i}.png`), 'no picture');
    const out = join(newFolder(), 'run');
    expect((await failure(run({ data: bad }, out))).message).to.match(/cannot be decoded/);
    expect(existsSync(out)).to.equal(false);
  });

  it('leaves nothing of its own where the first checkpoint cannot be written', async () => {
    const out = newFolder();
    mkdirSync(join(out, 'checkpoint.safetensors.tmp')); // where the checkpoint would be written
    expect((await failure(run({ keepEvery: 1 }, out))).message).to.include('checkpoint.safetensors.tmp');
    expect(readdirSync(out)).to.deep.equal(['checkpoint.safetensors.tmp']);
  });

  it('gives all memory back', async () => {
    await collectGarbage();
    const { tensors, bytes } = memoryStats('cpu');
    await run({ epochs: 1 });
    expect(memoryStats('cpu')).to.include({ tensors, bytes });
  });

  it('holds as much memory after 50 steps and an evaluation as before', async () => {
    await collectGarbage();
    const seen = new Map<number, { tensors: number; bytes: number }>();
    const out = newFolder();
    const report = (event: RunEvent) => {
      if (event.type !== 'progress') return;
      const { tensors, bytes } = memoryStats('cpu');
      seen.set(event.step, { tensors, bytes });
    };
    await pretrain({ ...tinySettings(data), epochs: 20, slowStart: 0, evalEvery: 20 }, { out, report });
    expect(seen.get(55)).to.deep.equal(seen.get(5));
    rmSync(out, { recursive: true });
  });
});
