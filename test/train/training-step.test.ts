import { expect } from 'chai';
import { collectGarbage } from '../garbage';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { getDefaultDevice, memoryStats } from '../../lib/tensor';
import { pretrain, type Settings } from '../../lib/train';
import { checkpointBytes, newFolder, removeFolders, tinyPictures, tinySettings } from './tiny-run';

/** Lines of the metrics without what differs from run to run. */
function metrics(out: string): unknown[] {
  const lines = readFileSync(join(out, 'metrics.jsonl'), 'utf8').trim().split('\n');
  return lines.map((line) => {
    const { ms: _ms, images_per_s: _speed, time: _time, ...rest } = JSON.parse(line) as Record<string, unknown>;
    return rest;
  });
}

describe('a recorded training step', function () {
  this.timeout(600_000);
  let data: string;
  before(async () => {
    data = await tinyPictures();
  });
  after(removeFolders);

  // Three steps of slow start and three of all widths: of each phase two replays. The queue of 40 is no multiple of 16.
  const settings: Record<string, Partial<Settings>> = {
    'moco-v2': {},
    'moco-v2 in parts, with clipped gradients and diagnoses': {
      accumulate: 2,
      clipGrad: 0.5,
      diagnoseEvery: 2,
      symmetric: true,
      evalEvery: 1,
    },
    'moco-v2 with stored similarities and adamw': { distill: 'mse-logits', optimizer: 'adamw', lr: 1e-3 },
    'moco-v2 in bfloat16': { precision: 'bf16' },
    'moco-v2 with split BatchNorm, which is not recordable': { batchNormSplits: 2 },
    'moco-v3 with lars': { method: 'moco-v3', mlpDim: 8, optimizer: 'lars' },
    'moco-v3 in parts': { method: 'moco-v3', mlpDim: 8, accumulate: 2, diagnoseEvery: 1 },
    simclr: { method: 'simclr', mlpDim: 8, optimizer: 'nesterov', clipGrad: 1 },
    'supervised training in parts': { method: 'supervised', accumulate: 4, queue: undefined },
  };
  const train = async (changes: Partial<Settings>, out = newFolder(), stopAfter?: number) => {
    const controller = new AbortController();
    const { dim, queue, ...tiny } = tinySettings(data);
    const own = changes.method === 'supervised' ? tiny : { ...tiny, dim, queue };
    await pretrain(
      { ...own, evalEvery: 0, device: getDefaultDevice(), ...changes },
      {
        out,
        signal: controller.signal,
        report: (event) => {
          if (event.type === 'progress' && event.step === stopAfter) controller.abort();
        },
      },
    );
    return out;
  };

  for (const [what, changes] of Object.entries(settings)) {
    it(`computes what it does one by one: ${what}`, async () => {
      const [recorded, eager] = [await train(changes), await train({ ...changes, eager: true })];
      expect(checkpointBytes(recorded).equals(checkpointBytes(eager))).equal(true);
      expect(metrics(recorded)).eql(metrics(eager));
    });
  }

  for (const stopAfter of [1, 2, 4]) {
    it(`goes on in the middle of a phase, after step ${stopAfter}`, async () => {
      const straight = await train({ eager: true });
      const out = await train({}, newFolder(), stopAfter);
      expect(checkpointBytes(out).equals(checkpointBytes(straight))).equal(false);
      await pretrain({}, { out, resume: true });
      expect(checkpointBytes(out).equals(checkpointBytes(straight))).equal(true);
    });
  }

  it('gives all memory back at the end', async () => {
    await train({});
    await collectGarbage();
    const before = memoryStats();
    await train({ accumulate: 2 });
    await collectGarbage();
    const { tensors, bytes, recordedBytes } = memoryStats();
    expect({ tensors, bytes, recordedBytes }).eql({
      tensors: before.tensors,
      bytes: before.bytes,
      recordedBytes: 0,
    });
  });

  it('is recorded unless told otherwise', async () => {
    const seen = async (eager: boolean) => {
      let most = 0;
      const report = () => void (most = Math.max(most, memoryStats().recordedBytes));
      await pretrain(
        { ...tinySettings(data), device: getDefaultDevice(), evalEvery: 0, eager },
        { out: newFolder(), report },
      );
      return most;
    };
    expect(await seen(false)).above(1e5);
    expect(await seen(true)).equal(0);
  });
});
