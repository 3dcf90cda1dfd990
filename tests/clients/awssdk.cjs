// Does one thing with the AWS SDK for JavaScript, version 3: `node awssdk.cjs NAME`, its arguments as JSON in ARGUMENTS.
// A body comes on standard input, an answer goes to standard output.
const fs = require("node:fs");
const {
  S3Client, CopyObjectCommand, DeleteObjectCommand, DeleteObjectsCommand, GetObjectCommand, PutObjectCommand, paginateListObjectsV2,
} = require("@aws-sdk/client-s3");
const { Upload } = require("@aws-sdk/lib-storage");
const { getSignedUrl } = require("@aws-sdk/s3-request-presigner");

const client = new S3Client({ endpoint: process.env.ENDPOINT, forcePathStyle: true });
const say = (value) => process.stdout.write(JSON.stringify(value));

const operations = {
  put: (place) => client.send(new PutObjectCommand({ ...place, Body: fs.readFileSync(0) })),
  putStream: ({ path, ...place }) => client.send(
    new PutObjectCommand({ ...place, Body: fs.createReadStream(path), ContentLength: fs.statSync(path).size })),
  get: async (place) => fs.writeSync(1, await (await client.send(new GetObjectCommand(place))).Body.transformToByteArray()),
  list: async (where) => {
    const found = [];
    for await (const page of paginateListObjectsV2({ client, pageSize: 2 }, where)) {
      found.push(...(page.Contents ?? []).map((item) => item.Key), ...(page.CommonPrefixes ?? []).map((item) => item.Prefix));
    }
    say(found);
  },
  upload: ({ path, partSize, ...place }) => new Upload({ client, partSize, params: { ...place, Body: fs.createReadStream(path) } }).done(),
  copy: ({ source, ...place }) => client.send(new CopyObjectCommand({ ...place, CopySource: encodeURIComponent(source) })),
  delete: (place) => client.send(new DeleteObjectCommand(place)),
  deleteMany: ({ keys, ...where }) => client.send(new DeleteObjectsCommand({ ...where, Delete: { Objects: keys.map((Key) => ({ Key })) } })),
  signPut: async (place) => say(await getSignedUrl(client, new PutObjectCommand(place))),
  signGet: async (place) => say(await getSignedUrl(client, new GetObjectCommand(place))),
};

operations[process.argv[2]](JSON.parse(process.env.ARGUMENTS)).catch((error) => {
  console.error(error);
  process.exit(1);
});
