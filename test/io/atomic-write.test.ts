import { expect } from 'chai';
import { spawnSync } from 'node:child_process';
import { mkdir, mkdtemp, readdir, readFile, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { atomicWrite, checkOutput, WriteError } from '../../lib/io';

const MODULE = require.resolve('../../lib/io/atomic-write');
const MIB = new Uint8Array(2 ** 20).fill(7);

describe('atomicWrite', () => {
  let folder: string;
  let file: string;
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'slimclr-atomic-'));
    file = join(folder, 'checkpoint');
    await writeFile(file, 'former');
  });
  afterEach(() => rm(folder, { recursive: true }));

  const failureOf = (write: Promise<void>): Promise<WriteError> =>
    write.then(
      () => expect.fail('written without an error'),
      (error: WriteError) => error,
    );

  async function expectFormer(at = folder): Promise<void> {
    expect(await readdir(at)).to.deep.equal(['checkpoint']);
    expect(await readFile(join(at, 'checkpoint'), 'utf8')).to.equal('former');
  }

  it('replaces the file and leaves nothing else', async () => {
    await atomicWrite(file, [Buffer.from('ab'), new Uint8Array(0), Buffer.from('c')]);
    expect(await readFile(file, 'utf8')).to.equal('abc');
    expect(await readdir(folder)).to.deep.equal(['checkpoint']);
  });

  it('takes chunks that are made while it writes', async () => {
    async function* chunks(): AsyncGenerator<Uint8Array> {
      for (const text of ['1', '2', '3']) yield Promise.resolve(Buffer.from(text));
    }
    await atomicWrite(file, chunks());
    expect(await readFile(file, 'utf8')).to.equal('123');
  });

  it('lets writes to one file take turns', async () => {
    const texts = ['a', 'b', 'c'].map((letter) => letter.repeat(100_000));
    await Promise.all(texts.map((text) => atomicWrite(file, [Buffer.from(text)])));
    expect(await readFile(file, 'utf8')).to.equal(texts[2]);
  });

  it('keeps the former file when the chunks fail, and passes their error on', async () => {
    function* chunks(): Generator<Uint8Array> {
      yield MIB;
      throw new RangeError('no such tensor');
    }
    expect(await failureOf(atomicWrite(file, chunks()))).to.be.instanceOf(RangeError);
    await expectFormer();
    await atomicWrite(file, [Buffer.from('next')]); // the failure does not stop the next write
    expect(await readFile(file, 'utf8')).to.equal('next');
  });

  it('keeps the former file when the system fails in the middle', async () => {
    function* chunks(): Generator<Uint8Array> {
      yield MIB;
      throw Object.assign(new Error('no space left'), { code: 'ENOSPC' });
    }
    const error = await failureOf(atomicWrite(file, chunks()));
    expect(error).to.be.instanceOf(WriteError).with.property('code', 'ENOSPC');
    expect(error.message).to.match(/disk is full \(after 1048576 bytes\)\. Free space .* unchanged/);
    await expectFormer();
  });

  it('keeps the former file on a disk that is really full', async function () {
    const disk = join(folder, 'disk');
    await mkdir(disk);
    const mounted = spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=512k', 'tmpfs', disk]);
    if (mounted.status !== 0) this.skip(); // needs root; the failing chunks above stand in for it
    try {
      await writeFile(join(disk, 'checkpoint'), 'former');
      const error = await failureOf(atomicWrite(join(disk, 'checkpoint'), [MIB]));
      expect(error).to.be.instanceOf(WriteError).with.property('code', 'ENOSPC');
      expect(error.message).to.match(/disk is full.*Free space/);
      await expectFormer(disk);
    } finally {
      spawnSync('umount', [disk]);
    }
  });

  it('keeps the former file at a limit of file size', function () {
    this.timeout(20_000);
    if (process.platform === 'win32') this.skip();
    const script = `require('ts-node/register'); require(${JSON.stringify(MODULE)})
      .atomicWrite(process.argv[1], [new Uint8Array(2 ** 20)]).then(() => console.log('written'), (e) => console.log(e.code, e.message))`;
    const child = spawnSync('bash', ['-c', 'ulimit -f 100; exec "$0" -e "$1" "$2"', process.execPath, script, file], {
      encoding: 'utf8',
    });
    expect(child.stdout).to.match(/^EFBIG .*ulimit -f/);
    return expectFormer();
  });

  it('leaves no temporaries of killed writers behind', async function () {
    this.timeout(20_000);
    const script = `require('ts-node/register'); async function* chunks() { yield Buffer.from('half'); process.kill(process.pid, 'SIGKILL'); yield Buffer.from('x'); }
      require(${JSON.stringify(MODULE)}).atomicWrite(process.argv[1], chunks())`;
    for (let run = 0; run < 2; run++) {
      const child = spawnSync(process.execPath, ['-e', script, file]);
      expect(child.signal).to.equal('SIGKILL');
      expect(await readFile(file, 'utf8')).to.equal('former');
      expect((await readdir(folder)).length, 'one temporary, however often killed').to.equal(2);
    }
    await atomicWrite(file, [Buffer.from('new')]);
    expect(await readdir(folder)).to.deep.equal(['checkpoint']);
    expect(await readFile(file, 'utf8')).to.equal('new');
  });

  it('notices another process that writes the same file', async () => {
    async function* chunks(): AsyncGenerator<Uint8Array> {
      yield Buffer.from('mine');
      await rm(`${file}.tmp`);
      await writeFile(`${file}.tmp`, 'theirs');
    }
    const error = await failureOf(atomicWrite(file, chunks()));
    expect(error.message).to.match(/another process/);
    expect(await readFile(file, 'utf8')).to.equal('former');
    expect(await readFile(`${file}.tmp`, 'utf8')).to.equal('theirs');
  });

  it('replaces no pipe and no device', async () => {
    const pipe = join(folder, 'pipe');
    expect(spawnSync('mkfifo', [pipe]).status).to.equal(0);
    expect((await failureOf(atomicWrite(pipe, [MIB]))).message).to.match(/pipe: is a device or a pipe/);
    expect((await stat(pipe)).isFIFO()).to.equal(true);
    expect((await readdir(folder)).sort()).to.deep.equal(['checkpoint', 'pipe']);
  });

  it('tells an output that is read from another, under any name', async () => {
    const link = join(folder, 'link');
    await symlink(folder, link);
    for (const same of [file, join(folder, '.', 'checkpoint'), join(link, 'checkpoint')]) {
      expect(() => checkOutput(same, 'x', file), same).to.throw(WriteError, /would replace the file that is read/);
    }
    checkOutput(join(folder, 'new'), file);
    checkOutput(join(folder, 'new'), join(folder, 'missing'));
  });

  it('says what to do about a missing folder, a file or a folder in the way', async () => {
    expect((await failureOf(atomicWrite(join(folder, 'no', 'x'), [MIB]))).message).to.match(
      /does not exist. Create it/,
    );
    expect((await failureOf(atomicWrite(join(file, 'x'), [MIB]))).message).to.match(/is no folder/);
    await mkdir(join(folder, 'taken'));
    expect((await failureOf(atomicWrite(join(folder, 'taken'), [MIB]))).message).to.match(
      /a folder of this name is in the way/,
    );
    expect((await readdir(folder)).sort()).to.deep.equal(['checkpoint', 'taken']);
  });
});
