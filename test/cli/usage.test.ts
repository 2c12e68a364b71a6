import { expect } from 'chai';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { run } from '../../lib/cli/program';

interface Printed {
  code: number;
  out: string;
  err: string;
}

async function slimclr(...args: string[]): Promise<Printed> {
  const printed: Printed = { code: 0, out: '', err: '' };
  printed.code = await run(args, {
    out: (text) => (printed.out += `${text}\n`),
    err: (text) => (printed.err += `${text}\n`),
    terminal: { write: (text) => (printed.err += text) },
  });
  return printed;
}

describe('slimclr', () => {
  it('prints its version', async () => {
    const { version } = JSON.parse(readFileSync(join(__dirname, '../../package.json'), 'utf8')) as { version: string };
    expect(await slimclr('--version')).to.deep.equal({ code: 0, out: `${version}\n`, err: '' });
  });

  const commands = [
    ['quickstart'],
    ['pretrain'],
    ['eval'],
    ['eval', 'knn'],
    ['eval', 'linear'],
    ['embed'],
    ['import'],
    ['export'],
    ['inspect'],
    ['report'],
    ['bench'],
    ['bench', 'step'],
    ['bench', 'loss'],
    ['bench', 'conv'],
    ['doctor'],
  ];
  for (const words of [[], ...commands]) {
    it(`explains ${words.join(' ') || 'itself'}`, async () => {
      const { code, out, err } = await slimclr(...words, '--help');
      expect({ code, err }).to.deep.equal({ code: 0, err: '' });
      expect(out).to.include(`Usage: slimclr ${words.join(' ')}`.trim());
    });
  }

  it('gives every option of pretrain with its default', async () => {
    const { out } = await slimclr('pretrain', '--help');
    const options = out
      .replace(/\n {20,}/g, ' ')
      .split('\n')
      .filter((line) => /^ {2}--/.test(line));
    expect(options).to.have.length.above(30);
    const without = options.filter((line) => !line.includes('(default: '));
    expect(without.map((line) => line.trim().split(' ')[0])).to.have.members(['--out', '--config', '--data']);
  });

  // Everything here is wrong usage: exit code 2, nothing on standard output, a sentence that helps.
  const checkpoint = ['--checkpoint', 'c'];
  const wrong: { args: string[]; says: RegExp }[] = [
    { args: [], says: /Usage: slimclr/ },
    { args: ['pretrian'], says: /unknown command 'pretrian'\n\(Did you mean pretrain\?\)/ },
    { args: ['eval'], says: /Usage: slimclr eval/ },
    { args: ['report'], says: /missing required argument 'dir'/ },
    { args: ['eval', 'lineal'], says: /unknown command 'lineal'\n\(Did you mean linear\?\)/ },
    { args: ['bench', 'stop'], says: /unknown command 'stop'\n\(Did you mean step\?\)/ },
    { args: ['pretrain', '--data', 'd'], says: /required option '--out <dir>' not specified/ },
    { args: ['pretrain', '--out', 'o'], says: /data is missing, give --data <dir>/ },
    {
      args: ['pretrain', '--out', 'o', '--data', 'd', '--epoch', '3'],
      says: /unknown option '--epoch'\n\(Did you mean --epochs\?\)/,
    },
    {
      args: ['pretrain', '--out', 'o', '--data', 'd', '--epochs', '0'],
      says: /'--epochs <n>' argument '0' is invalid\. Expected an integer of at least 1/,
    },
    { args: ['pretrain', '--out', 'o', '--data', 'd', '--epochs', ''], says: /'--epochs <n>' argument '' is invalid/ },
    { args: ['pretrain', '--out', 'o', '--data', 'd', '--epochs'], says: /'--epochs <n>' argument missing/ },
    {
      args: ['pretrain', '--out', 'o', '--data', 'd', '--lr', 'fast'],
      says: /'--lr <x>' argument 'fast' is invalid\. Expected a number above 0/,
    },
    {
      args: ['pretrain', '--out', 'o', '--data', 'd', '--arch', 'resnet51'],
      says: /Expected one of resnet18, .*resnet110/,
    },
    { args: ['pretrain', '--out', 'o', '--data', 'd', '--widths', '1,half'], says: /Expected fractions above 0/ },
    { args: ['pretrain', '--out', 'o', '--data', 'd', '--widths', '0.5,0.25'], says: /widths must hold 1/ },
    { args: ['pretrain', '--out', 'o', '--data', 'd', '--precision', 'fp8'], says: /Expected one of fp32, bf16, fp16/ },
    { args: ['pretrain', '--out', 'o', '--data', 'd', '--device', 'gpu'], says: /Expected auto, cpu, cuda or cuda:N/ },
    { args: ['pretrain', '--out', 'o', '--data', 'd', '--method', 'simsiam'], says: /Expected one of moco-v2/ },
    {
      args: ['pretrain', '--out', 'o', '--data', 'd', '--method', 'simclr', '--symmetric'],
      says: /symmetric and batchNormSplits are for method moco-v2, received simclr/,
    },
    {
      args: ['pretrain', '--out', 'o', '--data', 'd', '--loss-weights', '4'],
      says: /Expected one of 0, 1, 2, 3, 5, 6, 7/,
    },
    { args: ['pretrain', '--out', 'o', '--data', 'd', '--seed', '-1'], says: /Expected an integer of at least 0/ },
    { args: ['pretrain', '--out', 'o', '--data', 'd', 'more'], says: /too many arguments/ },
    { args: ['pretrain', '--out', 'o', '--config', 'no.yaml'], says: /cannot read no\.yaml/ },
    { args: ['pretrain', '--out', 'no-such-run', '--resume'], says: /no-such-run holds no checkpoint/ },
    { args: ['eval', 'knn', '--data', 'd'], says: /required option '--checkpoint <file>' not specified/ },
    { args: ['eval', 'knn', ...checkpoint, '--data', 'd', '--k', '0'], says: /Expected an integer of at least 1/ },
    {
      args: ['eval', 'linear', ...checkpoint, '--data', 'd', '--probe', 'both'],
      says: /Expected one of switchable, slimmable/,
    },
    {
      args: ['eval', 'linear', ...checkpoint, '--data', 'd', '--config', 'no.yaml'],
      says: /cannot read no\.yaml/,
    },
    {
      args: ['embed', ...checkpoint, '--input', 'x', '--output', 'y', '--width', '2'],
      says: /Expected a number above 0 and up to 1/,
    },
    { args: ['embed', ...checkpoint, '--output', 'y'], says: /required option '--input <file>' not specified/ },
    { args: ['import', '--output', 'o'], says: /missing required argument 'file'/ },
    { args: ['import', 'f.pth.tar'], says: /required option '--output <file>' not specified/ },
    { args: ['import', 'f.pth.tar', '--output', 'o', '--image', '4'], says: /Expected an integer from 8 to 1024/ },
    { args: ['export', '--output', 'o'], says: /required option '--checkpoint <file>' not specified/ },
    { args: ['export', ...checkpoint, '--output', 'o', '--format', 'onnx'], says: /Allowed choices are safetensors/ },
    { args: ['export', ...checkpoint, '--output', 'o', '--width', '0'], says: /Expected a number above 0 and up to 1/ },
    { args: ['inspect'], says: /give either --checkpoint or --arch/ },
    { args: ['inspect', '--arch', 'vgg'], says: /Expected one of resnet18/ },
    { args: ['inspect', ...checkpoint, '--arch', 'resnet18'], says: /give either --checkpoint or --arch/ },
    { args: ['inspect', '--arch', 'resnet20', '--widths', '1,0.5,0.5'], says: /widths holds a width twice/ },
    { args: ['inspect', '--arch', 'resnet20', '--stem', 'imagenet'], says: /resnet20 has the cifar stem only/ },
    { args: ['bench', 'conv', '--arch', 'resnet20', '--stem', 'imagenet'], says: /resnet20 has the cifar stem only/ },
    { args: ['bench', 'loss', '--threads', '257'], says: /Expected an integer from 0 to 256/ },
    {
      args: ['pretrain', '--out', 'o', '--data', 'd', '--temperature', '1e-9'],
      says: /Expected a number of at least 0\.001/,
    },
    {
      args: ['eval', 'knn', ...checkpoint, '--data', 'd', '--temperature', '1e-9'],
      says: /Expected a number of at least 0\.001/,
    },
    { args: ['bench', 'step', '--batch', '1'], says: /Expected an integer of at least 2/ },
    { args: ['doctor', '--jsn'], says: /unknown option '--jsn'\n\(Did you mean --json\?\)/ },
  ];
  for (const { args, says } of wrong) {
    it(`refuses: ${args.join(' ') || '(nothing)'}`, async () => {
      const { code, out, err } = await slimclr(...args);
      expect(err).to.match(says);
      expect({ code, out }).to.deep.equal({ code: 2, out: '' });
    });
  }

  // And here the usage is right, but it cannot be done: exit code 1.
  const failing: { args: string[]; says: RegExp }[] = [
    {
      args: ['pretrain', '--out', 'o', '--data', 'no/such/folder'],
      says: /^error: \[data\] no\/such\/folder does not exist/,
    },
    { args: ['inspect', ...checkpoint], says: /^error: \[safetensors\] c: no such file/ },
    {
      args: ['embed', ...checkpoint, '--input', 'x', '--output', 'y'],
      says: /^error: \[safetensors\] x: no such file/,
    },
  ];
  for (const { args, says } of failing) {
    it(`fails: ${args.join(' ')}`, async () => {
      const { code, out, err } = await slimclr(...args);
      expect(err).to.match(says);
      expect({ code, out }).to.deep.equal({ code: 1, out: '' });
    });
  }

  it('makes control characters of the names that it prints visible', async () => {
    const hostile = 'no\x1b]0;title\x07\rsuch\x7f';
    for (const args of [
      ['pretrain', '--out', 'o', '--data', hostile],
      ['inspect', '--checkpoint', hostile],
      ['inspect', `--${hostile}`],
    ]) {
      const { err } = await slimclr(...args);
      expect(err).to.include('no\\x1b]0;title\\x07\\x0dsuch\\u007f');
      expect(err).not.to.match(/[\x00-\x09\x0b-\x1f\x7f]/);
    }
  });
});
