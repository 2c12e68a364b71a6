// Runs in mixed precision on a CUDA device, next to one in float32 on the CPU (npm run test:device).
import { expect } from 'chai';
import { join } from 'node:path';
import { readJsonl, readSafetensors } from '../../lib/io';
import { memoryStats } from '../../lib/tensor';
import { loadEncoder, pretrain, type RunEvent, type Settings } from '../../lib/train';
import { checkpointBytes, newFolder, removeFolders, tinyPictures, tinySettings } from '../train/tiny-run';
import { device } from './compare';

describe(`a run in fp16 on ${device}`, () => {
  after(removeFolders);

  it('scales its loss, stops, goes on exactly and learns as in float32', async () => {
    const tiny: Settings = { ...tinySettings(await tinyPictures()), evalEvery: 0, clipGrad: 1 };
    const settings: Settings = { ...tiny, device, precision: 'fp16' };
    const [reference, straight, stopped] = [newFolder(), newFolder(), newFolder()];
    const linesOf = (out: string) => readJsonl(join(out, 'metrics.jsonl')).filter((line) => 'loss' in line);
    await pretrain(tiny, { out: reference });
    const before = memoryStats(device).tensors;
    await pretrain(settings, { out: straight });
    expect(memoryStats(device).tensors).to.equal(before);

    const expected = linesOf(reference).map((line) => line.loss as number);
    linesOf(straight).forEach((line, i) => {
      expect(line.loss, `loss of step ${i + 1}`).to.be.closeTo(expected[i], 0.05 * expected[i]);
      expect(line.loss_scale).to.equal(65_536);
    });
    const { tensors } = await readSafetensors(join(straight, 'checkpoint.safetensors'));
    expect(Array.from(tensors.get('loss_scale.scale')!.data as Float32Array)).to.deep.equal([65_536]);
    expect(Array.from(tensors.get('loss_scale.good_steps')!.data as BigInt64Array)).to.deep.equal([6n]);

    const controller = new AbortController();
    const report = (event: RunEvent) => {
      if (event.type === 'progress' && event.step === 3) controller.abort();
    };
    expect((await pretrain(settings, { out: stopped, signal: controller.signal, report })).interrupted).to.equal(true);
    await pretrain({}, { out: stopped, resume: true });
    expect(checkpointBytes(stopped).equals(checkpointBytes(straight))).to.equal(true);

    // A network of such a run is loaded wherever it is.
    const { encoder, network } = await loadEncoder(join(straight, 'checkpoint.safetensors'));
    expect(network.options.precision).to.equal('fp32');
    encoder.dispose();
  });
});
