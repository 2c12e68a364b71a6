import { expect } from 'chai';
import { collectGarbage } from '../garbage';
import { renameSync } from 'node:fs';
import { join } from 'node:path';
import { readJsonl, readSafetensors } from '../../lib/io';
import { memoryStats, zeros } from '../../lib/tensor';
import { evaluateCheckpoint, loadEncoder, pretrain, type RunEvent, type Settings } from '../../lib/train';
import { checkpointBytes, newFolder, removeFolders, tinyPictures, tinySettings } from './tiny-run';

describe('runs of every method', function () {
  this.timeout(300_000);
  let data: string;
  before(async () => {
    data = await tinyPictures();
  });
  after(removeFolders);

  const runs: Record<string, Partial<Settings>> = {
    'moco-v2 in bfloat16, symmetric, with split BatchNorm': {
      precision: 'bf16',
      symmetric: true,
      batchNormSplits: 4,
      distill: 'dkd',
    },
    'moco-v3': { method: 'moco-v3', mlpDim: 16, optimizer: 'lars', lr: 0.5 },
    'simclr in bfloat16': { method: 'simclr', precision: 'bf16', mlpDim: 16, distill: 'mse-logits', fullDistill: true },
    supervised: { method: 'supervised', dim: 4 },
  };
  for (const [name, changes] of Object.entries(runs)) {
    it(`trains, stops, goes on exactly and is evaluated: ${name}`, async () => {
      await collectGarbage();
      const before = memoryStats().tensors;
      const settings: Settings = { ...tinySettings(data), ...changes };
      const [straight, stopped] = [newFolder(), newFolder()];
      const result = await pretrain(settings, { out: straight });
      const steps = readJsonl(join(straight, 'metrics.jsonl')).filter((line) => 'loss' in line);
      expect(steps.map((line) => Object.keys(line.losses as object).length)).to.deep.equal([1, 1, 1, 2, 2, 2]);

      const controller = new AbortController();
      const report = (event: RunEvent) => {
        if (event.type === 'progress' && event.step === 3) controller.abort();
      };
      const first = await pretrain(settings, { out: stopped, signal: controller.signal, report });
      expect(first.interrupted).to.equal(true);
      await pretrain({}, { out: stopped, resume: true });
      expect(checkpointBytes(stopped).equals(checkpointBytes(straight))).to.equal(true);

      // The encoder that is evaluated from the file is the one that the run evaluated.
      const checkpoint = join(straight, 'checkpoint.safetensors');
      const { accuracy } = await evaluateCheckpoint({ knn: {} }, { checkpoint, data, device: 'cpu' });
      expect(accuracy).to.deep.equal(result.knn);
      const { encoder, network } = await loadEncoder(checkpoint);
      expect(network.options.outDim).to.equal(changes.dim ?? 8);
      encoder.dispose();
      expect(memoryStats().tensors).to.equal(before);
    });
  }

  it('refuses fp16 on the CPU and names the way out', async () => {
    const refused = pretrain({ ...tinySettings(data), precision: 'fp16' }, { out: newFolder() });
    const error = await refused.then(
      () => null,
      (e: unknown) => e as Error,
    );
    expect(error?.message).to.equal(
      '[device] cpu cannot compute in fp16: float16 is for CUDA; bfloat16 serves on the CPU; use --precision bf16',
    );
    expect(() => zeros([2], { dtype: 'float16', device: 'cpu' })).to.throw(
      TypeError,
      '[zeros] expected another element type',
    );
  });

  it('starts from the backbone of another method, in both encoders', async () => {
    const [first, second] = [newFolder(), newFolder()];
    await pretrain({ ...tinySettings(data), epochs: 1, evalEvery: 0 }, { out: first });
    const init = join(first, 'checkpoint.safetensors');
    const changes: Partial<Settings> = { method: 'moco-v3', mlpDim: 16, epochs: 1, evalEvery: 0, lr: 1e-9, init };
    const told: string[] = [];
    const report = (event: RunEvent) => {
      if (event.type === 'message') told.push(event.text);
    };
    await pretrain({ ...tinySettings(data), ...changes }, { out: second, report });
    expect(told.join()).to.match(/starting from .*backbone; the head, which is another, starts anew/);
    const [a, b] = await Promise.all(
      [first, second].map((out) => readSafetensors(join(out, 'checkpoint.safetensors'))),
    );
    const start = a.tensors.get('module.encoder_q.features.3.conv1.weight')!.data as Float32Array;
    for (const encoder of ['base_encoder', 'momentum_encoder']) {
      const now = b.tensors.get(`module.${encoder}.features.3.conv1.weight`)!.data as Float32Array;
      for (const [i, v] of now.entries()) expect(v).to.be.closeTo(start[i], 1e-5);
    }
  });

  it('supervised training takes as many outputs as there are classes, and needs classes', async () => {
    const settings: Settings = { ...tinySettings(data), method: 'supervised', dim: undefined, epochs: 1, slowStart: 0 };
    const out = newFolder();
    await pretrain(settings, { out });
    const { network } = await loadEncoder(join(out, 'checkpoint.safetensors'));
    expect(network.options).to.include({ outDim: 4, head: 'supervised_switch' });

    const plain = newFolder();
    renameSync(join(await tinyPictures(), 'train', 'circle'), join(plain, 'pictures'));
    const failed = await pretrain({ ...settings, data: plain }, { out: newFolder() }).then(String, String);
    expect(failed).to.match(/ConfigError: \[config\] method supervised needs pictures in class folders/);
  });
});
