import { expect } from 'chai';
import { spawnSync } from 'node:child_process';
import { appendFile, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { JsonlError, JsonlWriter, readJsonl, WriteError } from '../../lib/io';

describe('JsonlWriter', () => {
  let folder: string;
  let file: string;
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'slimclr-jsonl-'));
    file = join(folder, 'metrics.jsonl');
  });
  afterEach(() => rm(folder, { recursive: true }));

  function write(...records: object[]): void {
    const writer = JsonlWriter.create(file);
    for (const record of records) writer.write({ ...record });
    writer.close();
  }

  function resume(step: number, ...records: object[]): void {
    const writer = JsonlWriter.resume(file, step);
    for (const record of records) writer.write({ ...record });
    writer.close();
  }

  it('writes a line per record, on the disk at once', async () => {
    const writer = JsonlWriter.create(file);
    writer.write({ step: 1, loss: 2.5 });
    writer.write({ step: 2, text: 'ä\n' });
    expect(await readFile(file, 'utf8')).to.equal('{"step":1,"loss":2.5}\n{"step":2,"text":"ä\\n"}\n');
    writer.close();
    writer.close();
    expect(() => writer.write({})).to.throw(WriteError, /closed/);
    expect(readJsonl(file)).to.deep.equal([
      { step: 1, loss: 2.5 },
      { step: 2, text: 'ä\n' },
    ]);
  });

  it('keeps numbers that JSON lacks visible', async () => {
    write({ loss: NaN, widths: { '1': Infinity } });
    expect(await readFile(file, 'utf8')).to.equal('{"loss":"NaN","widths":{"1":"Infinity"}}\n');
  });

  it('starts anew on create', () => {
    write({ step: 1 }, { step: 2 });
    write({ step: 7 });
    expect(readJsonl(file)).to.deep.equal([{ step: 7 }]);
  });

  it('drops the records beyond the resumed step and goes on', () => {
    write({ step: 1 }, { step: 2 }, { step: 2, knn: 0.5 }, { step: 3 }, { note: 'after 3' }, { step: 4 });
    resume(2, { step: 3, again: true });
    expect(readJsonl(file)).to.deep.equal([{ step: 1 }, { step: 2 }, { step: 2, knn: 0.5 }, { step: 3, again: true }]);
    resume(0);
    expect(readJsonl(file)).to.deep.equal([]);
  });

  it('cuts a last line that is not whole, at whatever byte the run was killed', async () => {
    write({ step: 1, ü: 'ä' });
    const whole = await readFile(file);
    const last = Buffer.from('{"step":2,"ü":"ä"}\n');
    for (let length = 0; length < last.length; length++) {
      await writeFile(file, Buffer.concat([whole, last.subarray(0, length)]));
      expect(readJsonl(file), `cut at ${length}`).to.deep.equal([{ step: 1, ü: 'ä' }]);
      resume(5, { step: 3 });
      expect(readJsonl(file), `resumed at ${length}`).to.deep.equal([{ step: 1, ü: 'ä' }, { step: 3 }]);
    }
  });

  it('cuts the zeros that a power cut leaves at the end', async () => {
    write({ step: 1 });
    await appendFile(file, '\0\0\n\0\0');
    resume(5, { step: 2 });
    expect(readJsonl(file)).to.deep.equal([{ step: 1 }, { step: 2 }]);
  });

  it('loses nothing of a killed run', () => {
    const script = `require('ts-node/register'); const w = require(${JSON.stringify(require.resolve('../../lib/io/jsonl'))}).JsonlWriter.create(process.argv[1]);
      for (let step = 0; step < 100; step++) w.write({ step }); process.kill(process.pid, 'SIGKILL');`;
    expect(spawnSync(process.execPath, ['-e', script, file]).signal).to.equal('SIGKILL');
    expect(readJsonl(file)).to.have.length(100);
  }).timeout(20_000);

  it('resumes without a file', () => {
    resume(3, { step: 4 });
    expect(readJsonl(file)).to.deep.equal([{ step: 4 }]);
  });

  it('refuses damage in the middle, naming the line', async () => {
    for (const damage of ['{"step":', '[1]', 'null', '12']) {
      await writeFile(file, `{"step":1}\n${damage}\n{"step":3}\n`);
      expect(() => JsonlWriter.resume(file, 5)).to.throw(JsonlError, /line 2 is no JSON object/);
    }
  });

  it('keeps whole lines on a full disk', async function () {
    const disk = join(folder, 'disk');
    await mkdir(disk);
    if (spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=16k', 'tmpfs', disk]).status !== 0) this.skip(); // needs root
    try {
      const writer = JsonlWriter.create(join(disk, 'm.jsonl'));
      expect(() => {
        for (let step = 0; step < 10_000; step++) writer.write({ step });
      }).to.throw(WriteError, /Free space/);
      writer.close();
      const text = await readFile(join(disk, 'm.jsonl'), 'utf8');
      expect(text.length).to.be.greaterThan(4000);
      expect(text.endsWith('}\n')).to.equal(true);
    } finally {
      spawnSync('umount', [disk]);
    }
  });

  it('says what to do about a missing folder, a missing file, a wrong step', () => {
    expect(() => JsonlWriter.create(join(folder, 'no', 'm.jsonl'))).to.throw(WriteError, /cannot open.*writable/);
    expect(() => readJsonl(join(folder, 'none'))).to.throw(JsonlError, /cannot read/);
    for (const step of [-1, 1.5, NaN]) expect(() => JsonlWriter.resume(file, step)).to.throw(JsonlError, /step/);
  });
});
