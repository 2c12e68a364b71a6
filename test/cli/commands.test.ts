import { expect } from 'chai';
import { copyFileSync, existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { run } from '../../lib/cli/program';
import { eventFiles, readSafetensors, toFloat32, writeSafetensors } from '../../lib/io';
import { loadEncoder } from '../../lib/train';
import { noGrad, scope, tensor } from '../../lib/tensor';
import { Call, Global, Storage, Tensor, torchZip, tuple } from '../io/torch-writer';
import { checkpointBytes, newFolder, removeFolders, startCli, tinyOptions, tinyPictures } from '../train/tiny-run';

interface Printed {
  code: number;
  out: string;
  err: string;
  /** The last line of standard output, read as JSON. */
  json: Record<string, unknown>;
}

async function slimclr(...args: string[]): Promise<Printed> {
  let [out, err] = ['', ''];
  const code = await run(args, {
    out: (text) => (out += `${text}\n`),
    err: (text) => (err += `${text}\n`),
    terminal: { write: (text) => (err += text) },
  });
  const last = out.trim().split('\n').at(-1)!;
  return { code, out, err, json: last.startsWith('{') ? (JSON.parse(last) as Record<string, unknown>) : {} };
}

describe('slimclr', function () {
  this.timeout(300_000); // of processes of their own on a machine that may be busy
  let data: string;
  let out: string;
  let checkpoint: string;
  let result: Printed;

  before(async () => {
    data = await tinyPictures();
    out = newFolder();
    checkpoint = join(out, 'checkpoint.safetensors');
    result = await slimclr('pretrain', ...tinyOptions(data), '--out', out, '--json');
  });
  after(removeFolders);

  describe('report', () => {
    it('draws a run into its folder, or where it is told', async () => {
      const { code, out: told, err } = await slimclr('report', out);
      expect({ code, told, err }).to.deep.equal({ code: 0, told: `wrote ${join(out, 'report.html')}\n`, err: '' });
      expect(readFileSync(join(out, 'report.html'), 'utf8')).to.match(/^<!doctype html>[^]*<\/html>\n$/);
      const output = join(newFolder(), 'page.html');
      const { json } = await slimclr('report', out, '--output', output, '--json');
      expect(json).to.deep.equal({ output, remarks: [] });
      expect(readFileSync(output, 'utf8')).to.equal(readFileSync(join(out, 'report.html'), 'utf8'));
    });

    it('needs the folder of a run', async () => {
      const { code, err } = await slimclr('report', newFolder());
      expect(code).to.equal(1);
      expect(err).to.match(/^error: \[report\] .*config\.json does not exist; give the folder of a run/);
    });
  });

  describe('pretrain', () => {
    it('prints its result as JSON', () => {
      expect(result.code, result.err).to.equal(0);
      expect(result.json).to.include({ checkpoint, step: 6, steps: 6, interrupted: false, chance: 0.25 });
      expect(result.json.knn).to.have.keys('1', '0.5');
    });

    it('takes a recipe, which options on the command line win over, and writes what it ran', async () => {
      const folder = newFolder();
      const changes = ['--data', data, '--limit', '16', '--batch', '16', '--epochs', '1', '--base-width', '4'];
      const options = [...changes, '--queue', '20', '--image', '16', '--eval-every', '0', '--lr', '0.5'];
      const recipe = join(__dirname, '../../recipes/cifar10-gpu.yaml');
      const { code, err } = await slimclr(
        'pretrain',
        ...['--config', recipe, ...options, '--slow-start', '0', '--warmup-epochs', '0'],
        ...['--device', 'cpu', '--out', folder],
      );
      expect(code, err).to.equal(0);
      const written = JSON.parse(readFileSync(join(folder, 'config.json'), 'utf8')) as Record<string, unknown>;
      expect(written).to.include({ arch: 'resnet18', precision: 'bf16', weightDecay: 5e-4, method: 'moco-v2' });
      expect(written).to.include({ lr: 0.5, slimLr: 0.5, epochs: 1, batch: 16, queue: 20, baseWidth: 4 });
    });

    it('saves on Ctrl-C, says how to resume, and goes on to the same end', async () => {
      const stopped = join(newFolder(), "a child's run");
      const { child, finished, sees } = startCli(['pretrain', ...tinyOptions(data), '--out', stopped]);
      await sees('step 2/6');
      child.kill('SIGINT');
      const { code, stderr } = await finished;
      expect(code).to.equal(130);
      const told = /saved after step \d of 6; go on with: slimclr (pretrain --out .* --resume)\n/.exec(stderr)![1];
      const { finished: resumed } = startCli([], `set -- "$@" ${told}`);
      expect((await resumed).code).to.equal(0);
      expect(checkpointBytes(stopped).equals(checkpointBytes(out))).to.equal(true);
    });

    it('saves when its terminal is closed, which may tell it twice', async () => {
      const stopped = newFolder();
      const long = [...tinyOptions(data), '--epochs', '1000', '--out', stopped];
      const { child, finished, sees } = startCli(['pretrain', ...long]);
      await sees('step 2/');
      child.kill('SIGHUP');
      await sees('finishing the step');
      child.kill('SIGHUP');
      // A process that has saved by then and is ending has no handler any more: the signal ends it.
      const { code, signal, stderr } = await finished;
      expect(signal ?? code, stderr).to.be.oneOf([130, 'SIGHUP']);
      const step = Number(/saved after step (\d+) of 3000/.exec(stderr)![1]);
      const { json } = await slimclr('inspect', '--checkpoint', join(stopped, 'checkpoint.safetensors'), '--json');
      expect(json.step).to.equal(step);
    });

    it('quits at once on a second Ctrl-C, and leaves a checkpoint that is whole', async () => {
      const stopped = newFolder();
      const { child, finished, sees } = startCli([
        'pretrain',
        ...tinyOptions(data),
        '--epochs',
        '1000',
        '--out',
        stopped,
      ]);
      await sees('step 2/');
      child.kill('SIGINT');
      await sees('finishing the step');
      child.kill('SIGINT');
      // A process that has saved by then and is ending has no handler any more: the signal ends it.
      const { code, signal } = await finished;
      expect(signal ?? code).to.be.oneOf([130, 'SIGINT']);
      expect((await slimclr('inspect', '--checkpoint', join(stopped, 'checkpoint.safetensors'))).code).to.equal(0);
    });

    it('goes on when nobody reads its log any more, or the disk of the log is full', async () => {
      const [unread, full] = [newFolder(), newFolder()];
      const { child, finished } = startCli(['pretrain', ...tinyOptions(data), '--out', unread]);
      child.stderr!.destroy();
      expect((await finished).code).to.equal(0);
      const { finished: other } = startCli(['pretrain', ...tinyOptions(data), '--out', full], 'exec 2>/dev/full');
      expect((await other).code).to.equal(0);
      for (const folder of [unread, full]) {
        expect(checkpointBytes(folder).equals(checkpointBytes(out))).to.equal(true);
      }
    });

    it('ends quietly when nobody reads its result, and says where that cannot be written', async () => {
      const { finished } = startCli(['inspect', '--checkpoint', checkpoint], 'exec >/dev/full');
      const full = await finished;
      expect(full.code).to.equal(1);
      expect(full.stderr).to.match(/^error: cannot write to standard output: ENOSPC.*\n$/);
      const piped = startCli(['inspect', '--arch', 'resnet20']);
      piped.child.stdout!.destroy();
      const { code, stderr } = await piped.finished;
      expect({ code, stderr }).to.deep.equal({ code: 0, stderr: '' });
    });
  });

  describe('eval', () => {
    it('knn prints the accuracy of every width, as JSON and as a table', async () => {
      const where = ['--checkpoint', checkpoint, '--data', data, '--device', 'cpu'];
      const { code, json } = await slimclr('eval', 'knn', ...where, '--json');
      expect(code).to.equal(0);
      expect(json.knn).to.deep.equal(result.json.knn);
      const plain = await slimclr('eval', 'knn', '--checkpoint', checkpoint, '--data', data);
      expect(plain.out).to.match(/^width +knn\n-+ +-+\n1 +\d+\.\d %\n0\.5 +\d+\.\d %\n$/);
    });

    it('linear prints the accuracy of every width', async () => {
      const options = [
        '--checkpoint',
        checkpoint,
        '--data',
        data,
        '--epochs',
        '3',
        '--probe',
        'slimmable',
        '--loss',
        'labels',
      ];
      const { code, json } = await slimclr('eval', 'linear', ...options, '--json');
      expect(code).to.equal(0);
      expect(json.linear).to.have.keys('1', '0.5');
      // The same settings from a file, below one that the command line has.
      const file = join(newFolder(), 'probe.yaml');
      writeFileSync(file, 'epochs: 90\nprobe: slimmable\nloss: labels\n');
      const where = ['--checkpoint', checkpoint, '--data', data, '--json'];
      const again = await slimclr('eval', 'linear', ...where, '--config', file, '--epochs', '3');
      expect(again.json.linear).to.deep.equal(json.linear);
      writeFileSync(file, 'epoch: 90\n');
      const wrong = await slimclr('eval', 'linear', ...where, '--config', file);
      expect(wrong.code).to.equal(2);
      expect(wrong.err).to.match(/probe\.yaml: unknown setting "epoch" \(did you mean "epochs"\?\)/);
    });
  });

  describe('embed', () => {
    const pixels = Float32Array.from({ length: 3 * 3 * 16 * 16 }, (_, i) => Math.sin(i));
    let input: string;

    before(async () => {
      input = join(newFolder(), 'x.safetensors');
      await writeSafetensors(input, [['x', { dtype: 'F32', shape: [3, 3, 16, 16], data: pixels }]]);
    });

    for (const [index, width] of [1, 0.5].entries()) {
      it(`writes what the network computes at width ${width}`, async () => {
        const output = join(newFolder(), 'y.safetensors');
        const args = ['--checkpoint', checkpoint, '--width', String(width), '--input', input, '--output', output];
        const { code, json, err } = await slimclr('embed', ...args, '--device', 'cpu', '--json');
        expect(code, err).to.equal(0);
        expect(json.shapes).to.deep.equal({ features: [3, 16 * width], embedding: [3, 8] });

        const { tensors } = await readSafetensors(output);
        const { encoder } = await loadEncoder(checkpoint, 'cpu');
        const expected = scope(() =>
          noGrad(() => {
            const x = tensor(pixels, [3, 3, 16, 16], { device: 'cpu' });
            return { features: encoder.features(x, index), embedding: encoder.forward(x, index) };
          }),
        );
        for (const name of ['features', 'embedding'] as const) {
          expect([...toFloat32(tensors.get(name)!)]).to.deep.equal([...(await expected[name].data())]);
          expected[name].dispose();
        }
        encoder.dispose();
      });
    }

    it('names a width that the network lacks', async () => {
      const args = ['--checkpoint', checkpoint, '--width', '0.7', '--input', input, '--output', 'never.safetensors'];
      const { code, err } = await slimclr('embed', ...args);
      expect(code).to.equal(1);
      expect(err).to.match(/expected a width of 1, 0\.5, received 0\.7/);
      expect(existsSync('never.safetensors')).to.equal(false);
    });

    const wrong: { what: string; shape: number[]; dtype?: 'I32'; name?: string; says: RegExp }[] = [
      {
        what: 'pictures of one channel',
        shape: [1, 1, 8, 8],
        says: /expected x of shape \[N, 3, H, W\], received \[1, 1, 8, 8\]/,
      },
      { what: 'a single picture', shape: [3, 8, 8], says: /received \[3, 8, 8\]/ },
      { what: 'no pictures', shape: [0, 3, 8, 8], says: /received \[0, 3, 8, 8\]/ },
      { what: 'integers', shape: [1, 3, 8, 8], dtype: 'I32', says: /expected x of F32, found I32/ },
      { what: 'a tensor of another name', shape: [1, 3, 8, 8], name: 'pixels', says: /expected a tensor "x"/ },
    ];
    for (const { what, shape, dtype, name = 'x', says } of wrong) {
      it(`refuses ${what}`, async () => {
        const file = join(newFolder(), 'x.safetensors');
        const size = shape.reduce((a, b) => a * b);
        const value = dtype
          ? { dtype, shape, data: new Int32Array(size) }
          : { dtype: 'F32' as const, shape, data: new Float32Array(size) };
        await writeSafetensors(file, [[name, value]]);
        const { code, err } = await slimclr(
          'embed',
          '--checkpoint',
          checkpoint,
          '--input',
          file,
          '--output',
          'never.safetensors',
        );
        expect(code).to.equal(1);
        expect(err).to.match(says);
      });
    }
  });

  describe('inspect', () => {
    it("gives the paper's parameters and MACs of ResNet-50", async () => {
      const { json } = await slimclr('inspect', '--arch', 'resnet50', '--json');
      const widths = json.widths as Record<string, { parameters: number; macs: number }>;
      const figures = Object.entries(widths).map(([width, { parameters, macs }]) => [
        width,
        (parameters / 1e6).toFixed(2),
        (macs / 1e9).toFixed(3),
      ]);
      expect(figures).to.have.deep.members([
        ['1', '25.56', '4.089'],
        ['0.75', '14.77', '2.323'],
        ['0.5', '6.92', '1.052'],
        ['0.25', '1.99', '0.278'],
      ]);
    });

    it('tells what a checkpoint holds', async () => {
      const { code, json } = await slimclr('inspect', '--checkpoint', checkpoint, '--json');
      expect(code).to.equal(0);
      expect(json).to.include({ arch: 'resnet20', stem: 'cifar', image: 16, head: 'mocov2_slim', step: 6, epoch: 2 });
      expect(json.widths).to.have.keys('1', '0.5');
    });

    it('prints a table', async () => {
      const { out: text } = await slimclr('inspect', '--arch', 'resnet18', '--widths', '1,0.5', '--image', '32');
      expect(text).to.match(/^arch: resnet18\nstem: cifar\nimage: 32\n/);
      expect(text).to.match(/\nwidth +parameters +MACs .*\n-+.*\n1 +11\.17 M .*\n0\.5 +/);
    });
  });

  describe('import', () => {
    let file: string;

    before(async () => {
      // The run's network, written as the released training script would have.
      const storages: Storage[] = [];
      const state = new Map<string, Tensor>();
      for (const [name, { shape, data }] of (await readSafetensors(checkpoint)).tensors) {
        if (!name.startsWith('module.encoder')) continue;
        const storage = new Storage(String(storages.length), 'FloatStorage', data);
        storages.push(storage);
        state.set(name, new Tensor(storage, shape));
      }
      file = join(newFolder(), 'released.pth.tar');
      writeFileSync(
        file,
        torchZip(
          new Map<string, unknown>([
            ['epoch', 2],
            ['state_dict', state],
          ]),
          storages,
        ),
      );
    });

    it('gives a file that inspect, embed, eval and export take as the run’s checkpoint', async () => {
      const output = join(newFolder(), 'imported.safetensors');
      const { code, json, err } = await slimclr('import', file, '--output', output, '--image', '16', '--json');
      expect(code, err).to.equal(0);
      expect(json).to.deep.include({ output, arch: 'resnet20', widths: [1, 0.5], baseWidth: 4, head: 'mocov2_slim' });
      expect(json).to.deep.include({ outDim: 8, recipe: 'cifar', image: 16 });
      expect(json.source).to.deep.equal({ file: 'released.pth.tar', torch: 'zip', epoch: 2 });
      const plain = await slimclr('import', file, '--output', output, '--image', '16');
      expect(plain.out).to.match(/^output: .*\narch: resnet20\nstem: cifar\nwidths: \[1,0\.5\]\nbaseWidth: 4\n/);

      const inspected = await slimclr('inspect', '--checkpoint', output, '--json');
      const ours = await slimclr('inspect', '--checkpoint', checkpoint, '--json');
      expect(inspected.json.widths).to.deep.equal(ours.json.widths);
      expect(inspected.json)
        .to.deep.include({ image: 16, baseWidth: 4, imported: json.source })
        .and.not.have.property('step');

      const where = ['--checkpoint', output, '--data', data, '--device', 'cpu'];
      const knn = await slimclr('eval', 'knn', ...where, '--json');
      expect(knn.json.knn).to.deep.equal(result.json.knn);

      const cut = async (from: string) => {
        const small = join(newFolder(), 'small.safetensors');
        const printed = await slimclr('export', '--checkpoint', from, '--width', '0.5', '--output', small, '--json');
        expect(printed.code, printed.err).to.equal(0);
        expect(printed.json).to.include({ output: small, arch: 'resnet20', width: 0.5, features: 8 });
        return (await readSafetensors(small)).tensors;
      };
      expect(await cut(output)).to.deep.equal(await cut(checkpoint));
    });

    it('refuses a file that would run a command, by its name', async () => {
      const hostile = join(newFolder(), 'hostile.pth.tar');
      const marker = `${hostile}.marker`;
      writeFileSync(hostile, torchZip(new Call(new Global('os', 'system'), tuple(`touch ${marker}`))));
      const { code, out: text, err } = await slimclr('import', hostile, '--output', `${hostile}.safetensors`);
      expect({ code, text }).to.deep.equal({ code: 1, text: '' });
      expect(err).to.match(/^error: \[torch\] .*asks for "os\.system".*Nothing was executed.*\n$/);
      expect([existsSync(marker), existsSync(`${hostile}.safetensors`)]).to.deep.equal([false, false]);
    });
  });

  describe('export', () => {
    it('names a width that the network lacks, and a file that is none of ours', async () => {
      const output = join(newFolder(), 'o.safetensors');
      const width = await slimclr('export', '--checkpoint', checkpoint, '--width', '0.7', '--output', output);
      expect(width.code).to.equal(1);
      expect(width.err).to.match(/expected a width of 1, 0\.5, received 0\.7/);
      await slimclr('export', '--checkpoint', checkpoint, '--output', output);
      const again = await slimclr('export', '--checkpoint', output, '--output', `${output}.2`);
      expect(again.err).to.match(/holds one width alone, which slimclr export wrote/);
    });
  });

  it('replaces no file that it reads', async () => {
    const folder = newFolder();
    const [copy, x] = [join(folder, 'checkpoint.safetensors'), join(folder, 'x.safetensors')];
    copyFileSync(checkpoint, copy);
    await writeSafetensors(x, [['x', { dtype: 'F32', shape: [1, 3, 8, 8], data: new Float32Array(192) }]]);
    for (const args of [
      ['export', '--checkpoint', copy, '--output', copy],
      ['embed', '--checkpoint', copy, '--input', x, '--output', copy],
      ['embed', '--checkpoint', copy, '--input', x, '--output', x],
      ['import', copy, '--output', copy],
    ]) {
      const { code, err } = await slimclr(...args);
      expect(code, args.join(' ')).to.equal(1);
      expect(err).to.match(/would replace the file that is read/);
    }
    expect(readFileSync(copy).equals(checkpointBytes(out))).to.equal(true);
  });

  describe('bench', () => {
    const quick = ['--steps', '2', '--warmup', '0', '--device', 'cpu', '--json'];

    it('step gives medians of both phases', async () => {
      const { json } = await slimclr('bench', 'step', '--batch', '4', '--image', '16', '--queue', '32', ...quick);
      for (const phase of ['slow_start', 'slim']) {
        const { ms, images_per_s: rate } = json[phase] as { ms: number; images_per_s: number };
        expect(ms).to.be.above(0);
        expect(rate).to.be.closeTo(4000 / ms, 1e-6);
      }
    });

    it('loss gives milliseconds', async () => {
      const { json } = await slimclr(
        'bench',
        'loss',
        '--arch',
        'resnet18',
        '--batch',
        '4',
        '--queue',
        '32',
        '--dim',
        '8',
        ...quick,
      );
      expect(json.ms).to.be.above(0);
    });

    it('conv gives the speed of every distinct convolution', async () => {
      const { json } = await slimclr(
        'bench',
        'conv',
        '--batch',
        '2',
        '--image',
        '16',
        '--queue',
        '32',
        '--widths',
        '1,0.5',
        ...quick,
      );
      const layers = json.layers as Record<string, number>[];
      // Stem, three stages of 3x3, two strided 3x3 and two strided projections: at two widths.
      expect(layers).to.have.length(16);
      for (const layer of layers) {
        for (const pass of ['forward', 'backward_data', 'backward_weight']) expect(layer[pass]).to.be.above(0);
      }
    });
  });

  describe('doctor', () => {
    it('tells what there is', async () => {
      const { code, json } = await slimclr('doctor', '--json');
      expect(code).to.equal(0);
      expect(json).to.include({ node: process.version });
      expect((json.devices as { device: string }[])[0].device).to.equal('cpu');
      expect(json.libraries).to.include.keys('oneDNN', 'sharp', 'libvips');
      expect(json.cuda).to.be.a('string').that.includes('CUDA');
      expect((await slimclr('doctor')).out).to.match(/slimclr can compute here\./);
    });

    it('says how to get the addon where it does not load, with exit code 1', async () => {
      const { finished } = startCli(['doctor'], 'export SLIMCLR_ADDON=/no/such.node');
      const { code, stdout, stderr } = await finished;
      expect(code).to.equal(1);
      expect(stdout).to.match(/missing +the native addon.*SLIMCLR_ADDON names no file.*slimclr cannot compute here/s);
      expect(stderr).to.equal('');
    });

    it('is not needed for help', async () => {
      const { finished } = startCli(['pretrain', '--help'], 'export SLIMCLR_ADDON=/no/such.node');
      expect((await finished).code).to.equal(0);
    });
  });

  describe('quickstart', () => {
    const tiny = ['--pictures', '48', '--test-pictures', '24', '--epochs', '2', '--slow-start', '1', '--batch', '16'];

    it('prints what every width has learnt', async () => {
      const folder = join(newFolder(), 'q');
      const { code, out: text, err } = await slimclr('quickstart', ...tiny, '--widths', '1,0.5', '--out', folder);
      expect(code, err).to.equal(0);
      expect(text).to.match(
        /width +parameters +MACs +kNN untrained +kNN +linear\n[- ]+\n1 .*%.*%.*%\n0\.5 .*%.*%.*%\n/,
      );
      expect(text).to.match(/chance 8\.3 %/);
      const again = await slimclr('quickstart', ...tiny, '--out', folder);
      expect(again.code).to.equal(2);
      expect(again.err).to.match(/already holds a run or other files; choose another \(--out\)/);
    });

    it('replaces an earlier one in its usual folder, but nothing of anybody else, nor one that still runs', async () => {
      const folder = newFolder();
      const own = join(folder, 'quickstart/notes.txt');
      const options = [...tiny, '--pictures', '24', '--eval-every', '0', '--epochs', '1', '--widths', '1'];
      const shell = `export TS_NODE_PROJECT='${join(__dirname, '../../tsconfig.json')}'; cd '${folder}'`;
      const start = (...more: string[]) => startCli(['quickstart', ...options, ...more], shell);
      const first = start('--epochs', '100000');
      await first.sees('step 10/');
      const second = await start().finished;
      expect(second.code).to.equal(1);
      expect(second.stderr).to.match(/quickstart is in use by process/);
      first.child.kill('SIGKILL');
      await first.finished;

      writeFileSync(own, 'mine');
      expect(eventFiles(join(folder, 'quickstart'))).to.have.length(1);
      expect((await start().finished).code).to.equal(0);
      expect(readFileSync(own, 'utf8')).to.equal('mine');
      expect(eventFiles(join(folder, 'quickstart'))).to.have.length(1);

      const config = join(folder, 'quickstart/config.json');
      writeFileSync(config, '{"port": 80}');
      const foreign = await start().finished;
      expect(foreign.code).to.equal(2);
      expect(foreign.stderr).to.match(/config\.json: the folder already holds a run or other files/);
      expect(readFileSync(config, 'utf8')).to.equal('{"port": 80}');
    });

    it('says what could not be written, and leaves nothing, where the disk is full', async () => {
      const folder = newFolder();
      // A limit on the size of files stands for a full disk.
      const { finished } = startCli(['quickstart', ...tiny, '--out', join(folder, 'q')], 'ulimit -f 1');
      const { code, stderr } = await finished;
      expect(code).to.equal(1);
      expect(stderr).to.match(
        /error: \[shapes\] cannot write 72 pictures into .*pictures: .* after \d+ of them; they need about 1 MiB in all/,
      );
      expect(readdirSync(folder)).to.deep.equal([]);
    });

    it('prints it as JSON', async () => {
      const { json } = await slimclr(
        'quickstart',
        ...tiny,
        '--widths',
        '1,0.5',
        '--out',
        join(newFolder(), 'q'),
        '--json',
      );
      for (const name of ['widths', 'untrained', 'knn', 'linear']) expect(json[name]).to.have.keys('1', '0.5');
    });
  });
});
