import { expect } from 'chai';
import { readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { readSafetensors, writeSafetensors, type SafetensorsTensor } from '../../lib/io';
import { loadEncoder, pretrain } from '../../lib/train';
import { newFolder, removeFolders, tinyPictures, tinySettings } from './tiny-run';

describe('a checkpoint', () => {
  let good: string;
  let whole: Awaited<ReturnType<typeof readSafetensors>>;

  before(async () => {
    const out = newFolder();
    await pretrain({ ...tinySettings(await tinyPictures()), evalEvery: 0 }, { out, signal: AbortSignal.abort() });
    good = join(out, 'checkpoint.safetensors');
    whole = await readSafetensors(good);
  });
  after(removeFolders);

  /** Writes the checkpoint with changes and gives what loading it says. */
  async function rejection(
    change: (tensors: Map<string, SafetensorsTensor>, metadata: Record<string, string>) => void,
  ): Promise<Error> {
    const [tensors, metadata] = [new Map(whole.tensors), { ...whole.metadata }];
    change(tensors, metadata);
    const file = join(newFolder(), 'changed.safetensors');
    await writeSafetensors(file, tensors, metadata);
    return rejectionOf(file);
  }

  async function rejectionOf(file: string): Promise<Error> {
    const error = await loadEncoder(file).then(
      () => expect.fail('loaded without an error'),
      (e: Error) => e,
    );
    expect(error.name).to.be.oneOf(['CheckpointError', 'SafetensorsError']);
    expect(error.message).to.include(file);
    return error;
  }

  it('gives the encoder, frozen and in evaluation mode', async () => {
    const { encoder, network } = await loadEncoder(good);
    expect(encoder.training).to.equal(false);
    expect([...encoder.parameters().values()].some((p) => p.requiresGrad)).to.equal(false);
    expect(network.options).to.include({ arch: 'resnet20', baseWidth: 4, outDim: 8 });
    encoder.dispose();
  });

  it('holds no paths and no free choices of the machine', () => {
    const text = JSON.stringify(whole.metadata);
    for (const word of ['slimclr-run-', 'device', 'threads', 'evalEvery', '"data"']) {
      expect(text.replace('"slimclr-run-1"', '')).not.to.include(word);
    }
  });

  it('uses the names of the released checkpoints', () => {
    expect([...whole.tensors.keys()]).to.include.members([
      'module.encoder_q.conv1.weight',
      'module.encoder_q.features.3.shortcut.1.bn.1.running_var',
      'module.encoder_k.fc.2.bias',
      'module.queue',
      'module.queue_ptr',
      'optimizer.momentum.bn1.bn.0.weight',
    ]);
    expect(whole.tensors.get('module.queue')!.shape).to.deep.equal([8, 40]);
  });

  it('is refused when it is cut off, wherever', async () => {
    const bytes = readFileSync(good);
    const headerEnd = 8 + Number(bytes.readBigUInt64LE());
    for (const length of [0, 4, 8, 100, headerEnd - 1, headerEnd, headerEnd + 1, bytes.length >> 1, bytes.length - 1]) {
      const file = join(newFolder(), 'cut.safetensors');
      writeFileSync(file, bytes);
      truncateSync(file, length);
      await rejectionOf(file);
    }
  });

  it('is refused without one of its tensors, by name', async () => {
    const { message } = await rejection((tensors) => tensors.delete('module.encoder_q.features.4.conv1.weight'));
    expect(message).to.match(/missing: features\.4\.conv1\.weight/);
  });

  it('is refused with a tensor of another shape, by name', async () => {
    const name = 'module.encoder_q.conv1.weight';
    const { message } = await rejection((tensors) => {
      tensors.set(name, { dtype: 'F32', shape: [4, 27], data: tensors.get(name)!.data });
    });
    expect(message).to.match(/conv1\.weight expected \[4, 3, 3, 3\], received \[4, 27\]/);
  });

  it('is refused with a tensor of another type, by name', async () => {
    const { message } = await rejection((tensors) => {
      tensors.set('module.encoder_q.bn1.bn.0.weight', { dtype: 'I32', shape: [4], data: new Int32Array(4) });
    });
    expect(message).to.match(/bn1\.bn\.0\.weight expected a Float32Array/);
  });

  it('is refused when its settings name another architecture than its tensors', async () => {
    const { message } = await rejection((_, metadata) => {
      metadata.config = JSON.stringify({ ...JSON.parse(metadata.config), arch: 'resnet32' });
    });
    expect(message).to.match(/do not fit resnet32/);
  });

  const badMetadata: { what: string; metadata: Record<string, string>; says: RegExp }[] = [
    {
      what: 'of another program',
      metadata: { format: 'pt' },
      says: /found "pt"; give the checkpoint\.safetensors of a run/,
    },
    { what: 'with settings that are no JSON', metadata: { config: '{' }, says: /holds no valid "config"/ },
    { what: 'with settings that are no settings', metadata: { config: '[]' }, says: /holds no valid "config"/ },
    {
      what: 'with a misspelt setting',
      metadata: { config: '{"epoch": 1}' },
      says: /unknown setting "epoch" \(did you mean "epochs"/,
    },
    { what: 'without its progress', metadata: { progress: 'null' }, says: /holds no valid "progress"/ },
    { what: 'with a step that is none', metadata: { progress: '{"step": -1}' }, says: /holds no valid step/ },
  ];
  for (const { what, metadata, says } of badMetadata) {
    it(`is refused ${what}`, async () => {
      expect((await rejection((_, all) => Object.assign(all, metadata))).message).to.match(says);
    });
  }

  it('is refused without metadata', async () => {
    const { message } = await rejection((_, metadata) => {
      for (const key of Object.keys(metadata)) delete metadata[key];
    });
    expect(message).to.match(/found null/);
  });
});
