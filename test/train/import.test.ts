import { expect } from 'chai';
import { collectGarbage } from '../garbage';
import childProcess from 'node:child_process';
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { readSafetensors } from '../../lib/io';
import { readState, SlimmableResNet, type HeadKind, type HostTensor, type ResNetOptions } from '../../lib/nn';
import { memoryStats, noGrad, randn, scope } from '../../lib/tensor';
import { evaluateCheckpoint, importCheckpoint, loadEncoder, pretrain } from '../../lib/train';
import { mutate, randomIntegers, Storage, Tensor, torchLegacy, torchZip } from '../io/torch-writer';
import { newFolder, removeFolders, tinyPictures, tinySettings } from './tiny-run';

const options: ResNetOptions = {
  arch: 'resnet20',
  head: 'mocov2_slim',
  outDim: 8,
  widths: [1, 0.5],
  baseWidth: 4,
  stem: 'cifar',
  seed: 5,
  device: 'cpu',
};

/** A state dict as the released training scripts write it. */
async function releasedState(net: SlimmableResNet, prefixes: string[], type = 'FloatStorage') {
  const storages: Storage[] = [];
  const state = new Map<string, Tensor>();
  const put = (name: string, storageType: string, array: NodeJS.TypedArray, shape: readonly number[]) => {
    const storage = new Storage(String(storages.length), storageType, array);
    storages.push(storage);
    state.set(name, new Tensor(storage, shape));
  };
  const tensors: [string, HostTensor][] = [...(await readState(net.stateDict()))];
  for (const prefix of prefixes) {
    for (const [name, { shape, data }] of tensors) {
      const values = type === 'DoubleStorage' ? Float64Array.from(data as Float32Array) : (data as Float32Array);
      put(prefix + name, type, values, shape);
      if (name.endsWith('running_var')) {
        put(prefix + name.replace('running_var', 'num_batches_tracked'), 'LongStorage', BigInt64Array.of(9n), []);
      }
    }
  }
  put('module.queue', 'FloatStorage', new Float32Array(8 * 6), [8, 6]);
  put('module.queue_ptr', 'LongStorage', BigInt64Array.of(2n), [1]);
  return {
    value: new Map<string, unknown>([
      ['epoch', 3],
      ['arch', 'resnet20'],
      ['state_dict', state],
    ]),
    state,
    storages,
  };
}

describe('importCheckpoint', function () {
  this.timeout(120_000);
  after(removeFolders);

  async function imported(net: SlimmableResNet, prefixes: string[], write = torchZip, type?: string) {
    const { value, state, storages } = await releasedState(net, prefixes, type);
    const folder = newFolder();
    const file = join(folder, 'released.pth.tar');
    writeFileSync(file, write(value, storages));
    const output = join(folder, 'imported.safetensors');
    return { network: await importCheckpoint(file, output), file, output, state };
  }

  const heads: [HeadKind, string[], number?][] = [
    ['mocov2_slim', ['module.encoder_q.', 'module.encoder_k.']],
    ['mocov2_switch', ['module.encoder_k.', 'module.encoder_q.']],
    ['mocov3_slim', ['module.base_encoder.', 'module.momentum_encoder.'], 12],
    ['simclr_slim', ['module.'], 12],
    ['supervised', ['']],
    ['supervised_switch', ['module.']],
  ];
  for (const [n, [head, prefixes, mlpDim]] of heads.entries()) {
    it(`gives a network with ${head} that computes the same`, async () => {
      const net = new SlimmableResNet({ ...options, head, mlpDim }).eval();
      const { network, output, state } = await imported(net, prefixes, n % 2 ? torchLegacy : torchZip);
      expect(network.options).to.include({ arch: 'resnet20', stem: 'cifar', baseWidth: 4, head, outDim: 8 });
      expect(network.source).to.deep.equal({
        file: 'released.pth.tar',
        torch: n % 2 ? 'legacy' : 'zip',
        epoch: 3,
        arch: 'resnet20',
      });

      const { tensors, metadata } = await readSafetensors(output);
      expect([...tensors.keys()]).to.have.members([...state.keys()]);
      expect(tensors.get('module.queue_ptr')).to.deep.equal({ dtype: 'I64', shape: [1], data: BigInt64Array.of(2n) });
      expect(JSON.parse(metadata.network)).to.include({ arch: 'resnet20', head });

      const { encoder } = await loadEncoder(output, 'cpu');
      const x = randn([2, 3, 16, 16], { seed: 1, device: 'cpu' });
      for (const i of [0, 1]) {
        const [a, b] = scope(() => noGrad(() => [net.forward(x, i), encoder.forward(x, i)]));
        expect(await b.data()).to.deep.equal(await a.data());
        a.dispose();
        b.dispose();
      }
      for (const each of [x, net, encoder]) each.dispose();
    });
  }

  it('keeps other dtypes in the file and computes with their values', async () => {
    const net = new SlimmableResNet(options);
    const { output } = await imported(net, ['module.encoder_q.'], torchZip, 'DoubleStorage');
    expect((await readSafetensors(output)).tensors.get('module.encoder_q.conv1.weight')!.dtype).to.equal('F64');
    const { encoder } = await loadEncoder(output, 'cpu');
    const [a, b] = await Promise.all([readState(net.stateDict()), readState(encoder.stateDict())]);
    expect(b.get('conv1.weight')).to.deep.equal(a.get('conv1.weight'));
    net.dispose();
    encoder.dispose();
  });

  it('is evaluated, and starts a run, whose head may be another', async () => {
    const net = new SlimmableResNet(options);
    const { output } = await imported(net, ['module.encoder_q.']);
    const before = await readState(net.stateDict());
    net.dispose();
    const data = await tinyPictures();
    const { accuracy } = await evaluateCheckpoint({ knn: {} }, { checkpoint: output, data, device: 'cpu' });
    expect(accuracy).to.have.keys('1', '0.5');

    for (const [dim, says] of [
      [8, /starting from .*: backbone and head$/],
      [6, /backbone; the head/],
    ] as const) {
      const out = newFolder();
      const told: string[] = [];
      await pretrain(
        { ...tinySettings(data), dim, evalEvery: 0, init: output },
        {
          out,
          signal: AbortSignal.abort(), // saves before the first step
          report: (event) => event.type === 'message' && told.push(event.text),
        },
      );
      expect(
        told.some((text) => says.test(text)),
        told.join('\n'),
      ).to.equal(true);
      const { tensors } = await readSafetensors(join(out, 'checkpoint.safetensors'));
      for (const encoder of ['encoder_q', 'encoder_k']) {
        expect(tensors.get(`module.${encoder}.features.8.conv2.weight`)).to.deep.equal(
          before.get('features.8.conv2.weight'),
        );
        expect(tensors.get(`module.${encoder}.fc.2.weight`)!.shape).to.deep.equal([dim, 16]);
      }
      const same = Buffer.from(tensors.get('module.encoder_q.fc.2.weight')!.data.buffer).equals(
        Buffer.from(before.get('fc.2.weight')!.data.buffer),
      );
      expect(same).to.equal(dim === 8);
      // Goes on without the file: a resumed run has weights of its own.
      const { step } = await pretrain({ init: '/no/such/file' }, { out, resume: true, signal: AbortSignal.abort() });
      expect(step).to.equal(0);
    }
    const wrong = await pretrain({ ...tinySettings(data), baseWidth: 8, init: output }, { out: newFolder() }).catch(
      (e: Error) => e,
    );
    expect(wrong).to.have.property('name', 'ConfigError');
    expect((wrong as Error).message).to.match(/holds a network of baseWidth 4, not 8; give the run/);
  });

  it('refuses what is no slimmable network, and a network with a tensor too few, and writes nothing', async () => {
    const net = new SlimmableResNet(options);
    const { value, state, storages } = await releasedState(net, ['module.encoder_q.']);
    net.dispose();
    const bad: [() => void, RegExp][] = [
      [
        () => state.delete('module.encoder_q.features.3.shortcut.0.weight'),
        /missing: features\.3\.shortcut\.0\.weight/,
      ],
      [() => state.delete('module.encoder_q.bn1.bn.0.weight'), /expected a slimmable ResNet/],
    ];
    for (const [change, says] of bad) {
      change();
      const folder = newFolder();
      const file = join(folder, 'a.pth.tar');
      writeFileSync(file, torchZip(value, storages));
      const error = await importCheckpoint(file, join(folder, 'b')).catch((e: Error) => e);
      expect(error).to.have.property('name', 'CheckpointError');
      expect((error as Error).message)
        .to.match(says)
        .and.include(file);
      expect(readdirSync(folder)).to.deep.equal(['a.pth.tar']);
      const itself = await importCheckpoint(file, join(folder, '.', 'a.pth.tar')).catch((e: Error) => e);
      expect((itself as Error).message).to.match(/would replace the file that is read/);
    }
  });

  it('of 500 damaged files gives a network or a sentence, starts no process, touches no file, leaks no memory', async () => {
    const net = new SlimmableResNet(options);
    const { value, storages } = await releasedState(net, ['module.encoder_q.']);
    net.dispose();
    const folder = newFolder();
    const [file, output] = [join(folder, 'a.pth.tar'), join(folder, 'b.safetensors')];
    const random = randomIntegers(7);
    const started: string[] = [];
    const originals = { ...childProcess };
    for (const name of ['spawn', 'spawnSync', 'exec', 'execSync', 'execFile', 'execFileSync', 'fork'] as const) {
      (childProcess as Record<string, unknown>)[name] = () => started.push(name);
    }
    await collectGarbage();
    const { tensors } = memoryStats();
    const count = { imported: 0, refused: 0 };
    try {
      for (const write of [torchZip, torchLegacy]) {
        const whole = write(value, storages);
        const pickled = whole.lastIndexOf('module.queue_ptr') + 200;
        const hot =
          write === torchZip
            ? ([
                [0, pickled],
                [whole.length - 20_000, whole.length],
              ] as const)
            : ([[0, pickled]] as const);
        for (let round = 0; round < 250; round++) {
          const damaged = mutate(whole, random, hot);
          writeFileSync(file, damaged);
          try {
            await importCheckpoint(file, output);
            count.imported++;
            expect(existsSync(output)).to.equal(true);
          } catch (error) {
            expect((error as Error).name, String(error)).to.be.oneOf(['TorchFileError', 'CheckpointError']);
            expect((error as Error).message)
              .to.include(file)
              .and.not.include('\n');
            count.refused++;
          }
          expect(readFileSync(file).equals(damaged)).to.equal(true);
          expect(readdirSync(folder).filter((name) => !['a.pth.tar', 'b.safetensors'].includes(name))).to.deep.equal(
            [],
          );
        }
      }
    } finally {
      Object.assign(childProcess, originals);
    }
    expect(started).to.deep.equal([]);
    expect(memoryStats().tensors).to.equal(tensors);
    expect(count.imported + count.refused).to.equal(500);
    expect(count.imported).to.be.above(4);
    expect(count.refused).to.be.above(200);
  });
});
