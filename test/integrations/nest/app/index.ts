/** An application of Nest. Its decorators are those of TypeScript's `experimentalDecorators`, so it has a tsconfig of its own. */
import 'reflect-metadata'
import { CACHE_MANAGER, CacheInterceptor, CacheModule, CacheTTL } from '@nestjs/cache-manager'
import {
  Controller,
  Get,
  type INestApplication,
  Inject,
  Injectable,
  Module,
  type OnApplicationShutdown,
  Param,
  Post,
  UseInterceptors,
} from '@nestjs/common'
import { NestFactory } from '@nestjs/core'
import type { Cache } from 'cache-manager'
import { methodOf, type Region } from 'corral'
import { keyv5Store } from 'corral/integrations/keyv'

/** What tells the runs of a process apart, and the regions of its application. */
export interface Process {
  readonly name: string
  readonly users: Region<string>
  readonly responses: Region
}

export async function startNest({ name, users, responses }: Process): Promise<INestApplication> {
  let runs = 0

  @Injectable()
  class Users implements OnApplicationShutdown {
    constructor(@Inject('USERS') private readonly region: Region<string>) {}

    @users.cacheOnArguments({ namespace: 'user', self: 'shared' })
    async find(id: string): Promise<string> {
      return `user ${id}, run ${++runs} of ${name}`
    }

    async rename(id: string): Promise<void> {
      await methodOf(this as Users, 'find').invalidate(id)
    }

    onApplicationShutdown(): Promise<void> {
      return this.region.close()
    }
  }

  @Controller('users')
  class UsersController {
    constructor(
      @Inject(Users) private readonly found: Users,
      @Inject(CACHE_MANAGER) private readonly cache: Cache,
    ) {}

    @Get(':id')
    one(@Param('id') id: string): Promise<string> {
      return this.found.find(id)
    }

    @Post(':id')
    async rename(@Param('id') id: string): Promise<string> {
      await this.found.rename(id)
      return 'renamed'
    }

    @Get(':id/page')
    @UseInterceptors(CacheInterceptor)
    @CacheTTL(60_000)
    page(@Param('id') id: string): object {
      return { page: id, run: ++runs, of: name }
    }

    @Post(':id/page')
    async forget(@Param('id') id: string): Promise<string> {
      await this.cache.del(`/users/${id}/page`)
      return 'forgotten'
    }
  }

  @Module({
    imports: [CacheModule.register({ stores: [keyv5Store(responses)] })],
    controllers: [UsersController],
    providers: [Users, { provide: 'USERS', useValue: users }],
  })
  class AppModule {}

  const app = await NestFactory.create(AppModule, { logger: false })
  app.enableShutdownHooks()
  await app.listen(0, '127.0.0.1')
  return app
}
