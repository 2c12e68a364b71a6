import { expect } from 'chai';
import { spawnSync } from 'node:child_process';
import { chmod, mkdir, mkdtemp, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join, relative } from 'node:path';
import { DataError, scanImageFolder, type ImageFiles } from '../../lib/data';

describe('scanImageFolder', () => {
  let root: string;
  beforeEach(async () => {
    root = await mkdtemp(join(tmpdir(), 'slimclr-folder-'));
  });
  afterEach(() => rm(root, { recursive: true }));

  async function make(...files: string[]): Promise<void> {
    for (const file of files) {
      await mkdir(dirname(join(root, file)), { recursive: true });
      await writeFile(join(root, file), '');
    }
  }

  const names = (files: ImageFiles): string[] => files.paths.map((path) => relative(root, path));

  async function failure(at = root): Promise<string> {
    const error = await scanImageFolder(at).then(
      () => expect.fail('scanned without an error'),
      (e: Error) => e,
    );
    expect(error).to.be.instanceOf(DataError);
    expect(error.message).to.include(at);
    return error.message;
  }

  it('finds classes and labels in train/ and test/, sorted', async () => {
    await make('train/b/2.png', 'train/b/10.JPG', 'train/a/x.webp', 'train/Z/1.jpeg', 'test/b/t.Jpeg', 'test/a/t.png');
    const { classes, train, test, others } = await scanImageFolder(root);
    expect(classes).to.deep.equal(['Z', 'a', 'b']);
    expect(names(train)).to.deep.equal(['train/Z/1.jpeg', 'train/a/x.webp', 'train/b/10.JPG', 'train/b/2.png']);
    expect(train.labels).to.deep.equal(Int32Array.of(0, 1, 2, 2));
    expect(names(test!)).to.deep.equal(['test/a/t.png', 'test/b/t.Jpeg']);
    expect(test!.labels).to.deep.equal(Int32Array.of(1, 2)); // numbered as in train/
    expect(test!.classes).to.deep.equal(classes);
    expect(others).to.deep.equal({ count: 0, examples: [] });
  });

  it('takes val/ as the test split where there is no test/', async () => {
    await make('train/a/1.png', 'val/a/2.png');
    expect(names((await scanImageFolder(root)).test!)).to.deep.equal(['val/a/2.png']);
  });

  it('takes pictures at any depth, without labels', async () => {
    await make('1.png', 'sub/deep/2.jpg', 'sub/3.webp');
    const { classes, train, test } = await scanImageFolder(root);
    expect(names(train)).to.deep.equal(['1.png', 'sub/3.webp', 'sub/deep/2.jpg']);
    expect([train.labels, test, classes]).to.deep.equal([null, null, []]);
  });

  it('takes loose pictures in train/, without labels', async () => {
    await make('train/1.png', 'train/2.png');
    const { train } = await scanImageFolder(root);
    expect([train.paths.length, train.labels]).to.deep.equal([2, null]);
  });

  it('reports files that are no pictures, and passes over hidden folders', async () => {
    await make(
      'train/a/1.png',
      'train/a/notes.txt',
      'train/a/._1.png',
      'train/a/Thumbs.db',
      'train/README',
      'train/.cache/x.png',
    );
    await make('train/a/c.gif', 'train/a/d.svg', 'train/a/e.mp4');
    const { train, classes, others } = await scanImageFolder(root);
    expect(names(train)).to.deep.equal(['train/a/1.png']);
    expect(classes).to.deep.equal(['a']);
    expect(others.count).to.equal(7);
    expect(others.examples).to.have.length(5).and.include('train/README').and.include('train/a/Thumbs.db');
  });

  it('follows links, also in circles', async () => {
    await make('train/a/1.png', 'store/2.png');
    await symlink(join(root, 'store'), join(root, 'train/b'));
    await symlink(join(root, 'train'), join(root, 'train/a/up'));
    await symlink('.', join(root, 'train/a/self'));
    await symlink(join(root, 'store/2.png'), join(root, 'train/a/2.png'));
    await symlink('nowhere', join(root, 'train/a/dead.png'));
    const { train, others } = await scanImageFolder(root);
    expect(names(train).filter((name) => !name.includes('up'))).to.deep.equal([
      'train/a/1.png',
      'train/a/2.png',
      'train/b/2.png',
    ]);
    expect(others.examples).to.include('train/a/dead.png');
  });

  it('does not open pipes', async function () {
    await make('1.png');
    if (spawnSync('mkfifo', [join(root, '2.png')]).status !== 0) this.skip();
    const { train, others } = await scanImageFolder(root);
    expect([names(train), others.count]).to.deep.equal([['1.png'], 1]);
  });

  it('speaks about folders that are missing, a file, empty, or without pictures', async () => {
    expect(await failure(join(root, 'none'))).to.match(/does not exist/);
    expect(await failure()).to.match(/holds no pictures\. Expected JPEG, PNG or WebP/);
    await make('a.txt');
    expect(await failure()).to.match(/holds no pictures \(1 other files, such as a.txt\)/);
    expect(await failure(join(root, 'a.txt'))).to.match(/is a file/);
    await mkdir(join(root, 'train'));
    expect(await failure()).to.match(/train holds no pictures/);
    await make('train/a/1.png');
    await mkdir(join(root, 'train', 'b'));
    expect(await failure()).to.match(/b holds no pictures.*Fill the class folder or remove it/);
  });

  it('speaks about mixed layouts', async () => {
    await make('test/a/1.png');
    expect(await failure()).to.match(/has test\/ but no train\//);
    await make('train/b/1.png');
    expect(await failure()).to.match(/classes that train\/ lacks: a/);
    await make('train/loose.png', 'train/a/1.png');
    expect(await failure()).to.match(/class folders \(a, …\) and 1 loose pictures \(loose.png, …\)/);
    await rm(join(root, 'train/loose.png'));
    await rm(join(root, 'test/a'), { recursive: true });
    await make('test/1.png');
    expect(await failure()).to.match(/loose pictures, train\/ has classes/);
  });

  it('speaks about folders that it may not read', async function () {
    if (process.platform === 'win32') this.skip();
    await make('train/a/1.png');
    for (const folder of [root, join(root, 'train')]) await chmod(folder, 0o755); // whatever the umask
    const locked = join(root, 'train/a');
    await chmod(locked, 0);
    const root_ = process.geteuid!() === 0;
    if (root_) process.seteuid!(65534); // root may read anything
    try {
      const reached = await stat(root).catch(() => null);
      if (!reached) this.skip(); // the folder of temporary files is root's alone
      const error = await scanImageFolder(root).catch((e: Error) => e);
      expect(error)
        .to.be.instanceOf(DataError)
        .with.property('message')
        .that.matches(/permission denied/)
        .and.includes(locked);
    } finally {
      if (root_) process.seteuid!(0);
      await chmod(locked, 0o755);
    }
  });
});
