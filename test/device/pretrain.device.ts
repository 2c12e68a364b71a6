// Training in fp16 on a CUDA device (npm run test:device).
import { expect } from 'chai';
import { join } from 'node:path';
import { readJsonl, readSafetensors } from '../../lib/io';
import { MoCoV2 } from '../../lib/methods';
import { LossScaler, SGD } from '../../lib/optim';
import { cast, memoryStats, randn, scope, tensor } from '../../lib/tensor';
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

  it('skips steps and halves the scale until the gradients fit, and stays finite', () => {
    const images = [1, 2].map((seed) => scope(() => randn([4, 3, 8, 8], { seed, device: 'cpu' }).dataSync()));
    const method = new MoCoV2({
      arch: 'resnet20',
      baseWidth: 4,
      widths: [1, 0.5],
      dim: 6,
      queueSize: 20,
      precision: 'fp16',
      device,
    });
    const sgd = new SGD(method.parameters());
    const scaler = new LossScaler({ scale: 2 ** 30, device });
    const weights = () => [...method.parameters().values()].flatMap((p) => Array.from(p.dataSync(), Number));
    const good = () => Number(scaler.state.get('good_steps')!.dataSync()[0]);
    try {
      sgd.setLearningRate(0.1);
      const start = weights();
      let skipped = -1;
      do {
        expect(weights()).to.deep.equal(start);
        expect(scaler.scale.dataSync()[0]).to.equal(2 ** (30 - ++skipped));
        scope(() => {
          const [xq, xk] = images.map((data) => cast(tensor(data, [4, 3, 8, 8], { device }), 'float16'));
          sgd.zeroGrad();
          const { loss } = method.step(xq, xk, { slim: true, lossScale: scaler.scale });
          expect(loss.dataSync()[0]).to.satisfy(Number.isFinite);
          scaler.unscale(sgd);
          scaler.step(sgd);
        });
      } while (good() === 0 && skipped < 30);
      expect(skipped).to.be.within(1, 29);
      expect(weights()).to.satisfy((all: number[]) => all.every(Number.isFinite));
      expect(weights()).to.not.deep.equal(start);
    } finally {
      for (const part of [method, sgd, scaler]) part.dispose();
    }
  });
});
