import { execFileSync, spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, readdirSync, symlinkSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { open } from 'lmdb'
import { describe, expect, test } from 'vitest'
import { lmdb } from '../../../backends/lmdb/index.js'
import { bundlePeer, temporaryFolder } from './support.js'

const folder = temporaryFolder()
const program = await bundlePeer('peer-disk.ts')
/** Mounting needs a name space of one's own, which not every machine allows. */
const canMount = spawnSync('unshare', ['-rm', 'true']).status === 0
if (!canMount)
  console.warn('unshare -rm is not allowed here: the tests of full and read-only disks are skipped')

interface Answer {
  readonly stored: number
  readonly errors: readonly { readonly code: string; readonly message: string }[]
  readonly wrong: number
  readonly wrongAfterwards: number
  readonly afterDeleting: unknown
  readonly thrown?: { readonly code: string; readonly message: string }
  readonly unhandled?: string
}

function runMounted(prepare: string, mode: string, file: string): Answer {
  const script = `${prepare} && exec "$0" "$1" "$2" "$3"`
  const output = execFileSync('unshare', ['-rm', 'sh', '-c', script, process.execPath, program, mode, file], {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  return JSON.parse(output.trim().split('\n').at(-1) ?? '') as Answer
}

describe.skipIf(!canMount)('a disk', () => {
  test('that is full gives a typed error, and stored values stay whole', () => {
    const place = join(folder, 'small')
    mkdirSync(place)
    const answer = runMounted(`mount -t tmpfs -o size=1m none "${place}"`, 'full', join(place, 'cache.mdb'))
    expect(answer.stored).toBeGreaterThan(10)
    expect(answer.errors.length).toBe(5)
    for (const error of answer.errors) {
      expect(error.code).toBe('ERR_BACKEND')
      expect(error.message).toMatch(/disk is full/)
    }
    expect(answer).toMatchObject({ wrong: 0, wrongAfterwards: 0, afterDeleting: 'stored' })
    expect(answer.unhandled).toBeUndefined()
  })

  test('that has no room for the lock file gives an error and no crash', () => {
    const place = join(folder, 'tiny')
    mkdirSync(place)
    const fill = `mount -t tmpfs -o size=64k none "${place}" && head -c 60000 /dev/zero > "${place}/other"`
    const { thrown } = runMounted(fill, 'open', join(place, 'cache.mdb'))
    expect(thrown).toMatchObject({ code: 'ERR_BACKEND', message: expect.stringMatching(/disk is full/) })
  })

  test('that is mounted read-only gives an error that says so', async () => {
    const place = join(folder, 'fixed')
    const file = join(place, 'cache.mdb')
    const store = lmdb(file)
    await store.close()
    const readOnly = `mount --bind "${place}" "${place}" && mount -o remount,ro,bind "${place}"`
    for (const path of [file, join(place, 'new.mdb')]) {
      const { thrown } = runMounted(readOnly, 'open', path)
      expect(thrown).toMatchObject({
        code: 'ERR_UNAVAILABLE',
        message: expect.stringMatching(/read-only.*mount it writable/),
      })
    }
  })
})

describe('a file', () => {
  test('of a newer format is refused with advice, and left as it was', async () => {
    const file = join(folder, 'newer.mdb')
    await lmdb(file).close()
    const root = open(file, { encoding: 'binary' })
    const trees = root.openDB({
      name: 'corral',
      encoding: 'binary',
      keyEncoding: 'binary',
      useVersions: true,
    })
    const record = Buffer.alloc(16)
    record.writeDoubleLE(1, 0)
    record.writeDoubleLE(2, 8)
    await trees.put(Buffer.from([0]), record, 1)
    await root.close()
    expect(() => lmdb(file)).toThrow(
      expect.objectContaining({
        code: 'ERR_UNSUPPORTED',
        message: expect.stringMatching(/format 1, got format 2.*Upgrade corral/),
      }),
    )
  })

  test.each([
    ['garbage', Buffer.alloc(20_000, 7)],
    ['text', Buffer.from('hello')],
  ])('of %s is refused and not touched', (name, content) => {
    const file = join(folder, `${name}.mdb`)
    writeFileSync(file, content)
    expect(() => lmdb(file)).toThrow(
      expect.objectContaining({
        code: 'ERR_UNSUPPORTED',
        message: expect.stringMatching(/to be an LMDB file/),
      }),
    )
    expect(existsSync(`${file}-lock`)).toBe(false)
  })

  test('that was created but never written is taken', async () => {
    const file = join(folder, 'empty.mdb')
    writeFileSync(file, '')
    await lmdb(file).close()
  })

  test('in folders that do not exist yet is created with them, and leaves nothing else there', async () => {
    const file = join(folder, 'a/b/c/cache.mdb')
    await lmdb(file).close()
    expect(readdirSync(dirname(file)).sort()).toEqual(['cache.mdb', 'cache.mdb-gate', 'cache.mdb-lock'])
    const inFolder = join(folder, 'as-folder')
    await lmdb(inFolder).close()
    expect(readdirSync(inFolder).sort()).toEqual(['data.mdb', 'data.mdb-gate', 'lock.mdb'])
  })

  test.each([
    [
      'a folder where the file should be',
      () => (mkdirSync(join(folder, 'dir.mdb'), { recursive: true }), join(folder, 'dir.mdb')),
    ],
    [
      'a path below a file',
      () => (writeFileSync(join(folder, 'plain'), ''), join(folder, 'plain/cache.mdb')),
    ],
  ])('cannot be opened at %s', (_, path) => {
    expect(() => lmdb(path())).toThrow(expect.objectContaining({ code: 'ERR_UNAVAILABLE' }))
  })

  /** In a process of its own, since one that hangs cannot be ended from inside. */
  const opens = (paths: readonly string[]) => {
    const { stdout, status } = spawnSync(process.execPath, [program, 'odd', JSON.stringify(paths)], {
      encoding: 'utf8',
      timeout: 20_000,
    })
    return { status, answers: JSON.parse(stdout.trim() || '[]') as unknown }
  }

  test.skipIf(process.platform !== 'linux')('gives an error at odd paths, and never hangs', () => {
    const at = (name: string) => join(folder, name)
    spawnSync('mkfifo', [at('pipe.mdb')])
    symlinkSync('/dev/zero', at('device.mdb'))
    symlinkSync(at('loop.mdb'), at('loop.mdb'))
    symlinkSync('/nowhere/cache.mdb', at('dangling.mdb'))
    writeFileSync(at('taken'), '')
    mkdirSync(at('a-folder.mdb'))
    const paths = [
      ...['/proc/cache', '/proc/a/b/cache.mdb', '/proc/cache.mdb', '/dev/null', '/dev/null/cache.mdb'],
      ...['pipe.mdb', 'device.mdb', 'loop.mdb', 'dangling.mdb', 'taken', 'taken/below', 'a-folder.mdb'].map(
        at,
      ),
      ...[`${'n'.repeat(300)}.mdb`, 'n'.repeat(300), `${'n'.repeat(245)}.mdb`, 'zero\0byte.mdb'].map(at),
    ]
    const { status, answers } = opens(paths)
    expect(status).toBe(0)
    expect(answers).toEqual(paths.map((path) => [path, 'ERR_UNAVAILABLE']))
  })

  test.each([[5], [undefined], [''], [{}], [null]])('is not given by %j', (target) => {
    expect(() => lmdb(target as never)).toThrow(expect.objectContaining({ code: 'ERR_OPTION' }))
  })

  test.each([
    [{ maxBytes: 5 }],
    [{ maxBytes: '1 GB' }],
    [{ mapSize: 0 }],
    [{ sweepEvery: 'often' }],
    [{ timeout: 0 }],
    [{ path: 'x' }],
  ])('is not opened with %j', (options) => {
    expect(() => lmdb(join(folder, 'options.mdb'), options as never)).toThrow(
      expect.objectContaining({ code: 'ERR_OPTION' }),
    )
  })
})
