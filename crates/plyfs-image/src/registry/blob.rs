//! Reading a blob: when the connection breaks, it is made again where it broke.

use std::io::{self, Read};

use plyfs_store::Digest;
use ureq::BodyReader;
use ureq::http::HeaderMap;

use super::Registry;
use crate::error::{Error, Result};

/// The bytes of a blob from some byte on. Ends exactly where its descriptor says.
pub(crate) struct BlobReader<'a> {
    registry: &'a Registry<'a>,
    digest: Digest,
    size: u64,
    at: u64,
    body: Option<BodyReader<'static>>,
    /// Bytes of `body` before `at`: ranges are not for every server, what we have is read over.
    ahead: u64,
    /// Connections that broke without having given a byte.
    fruitless: u32,
}

impl<'a> BlobReader<'a> {
    pub(super) fn new(registry: &'a Registry<'a>, digest: Digest, size: u64, from: u64) -> BlobReader<'a> {
        BlobReader { registry, digest, size, at: from, body: None, ahead: 0, fruitless: 0 }
    }

    /// The body, and how many of its bytes we have.
    fn connect(&self) -> Result<(BodyReader<'static>, u64)> {
        let url = self.registry.blob_url(self.digest);
        let answer = self.registry.get(&url, None, self.at)?;
        let begins = match answer.status().as_u16() {
            206 => first_byte(answer.headers()),
            200 => Some(0),
            _ => {
                return Err(Error::registry(
                    url,
                    format!("it is shorter than the {} bytes it should have", self.size),
                ));
            }
        };
        let wrong = || Error::registry(&url, "the answer is not the part that was asked for");
        let ahead = begins.and_then(|begins| self.at.checked_sub(begins)).ok_or_else(wrong)?;
        Ok((answer.into_body().into_reader(), ahead))
    }

    fn try_read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let body = match &mut self.body {
            Some(body) => body,
            None => {
                let (body, ahead) = self.connect().map_err(io::Error::other)?;
                self.ahead = ahead;
                self.body.insert(body)
            }
        };
        while self.ahead > 0 {
            match io::copy(&mut body.take(self.ahead), &mut io::sink())? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                over => self.ahead -= over,
            }
        }
        match body.read(buf)? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            got => Ok(got),
        }
    }
}

/// Of `Content-Range: bytes 5-9/10`.
fn first_byte(headers: &HeaderMap) -> Option<u64> {
    let text = headers.get("content-range")?.to_str().ok()?;
    text.trim().strip_prefix("bytes")?.trim().split('-').next()?.trim().parse().ok()
}

impl Read for BlobReader<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.size - self.at.min(self.size)).unwrap_or(usize::MAX);
        let length = left.min(buf.len());
        if length == 0 {
            return Ok(0);
        }
        loop {
            let is_new = self.body.is_none();
            match self.try_read(&mut buf[..length]) {
                Ok(got) => {
                    self.at += got as u64;
                    self.fruitless = 0;
                    return Ok(got);
                }
                // Connecting has its own patience.
                Err(error) if is_new && self.body.is_none() => return Err(error),
                Err(error) if self.fruitless >= self.registry.options.tries => return Err(error),
                Err(error) => {
                    self.body = None;
                    self.fruitless += 1;
                    self.registry.cancel.check().map_err(io::Error::other)?;
                    tracing::info!(
                        "blob {} broke off at byte {}: {error}; going on",
                        self.digest.short(),
                        self.at
                    );
                    let wait = self.registry.options.wait.saturating_mul(self.fruitless);
                    self.registry.cancel.sleep(wait).map_err(io::Error::other)?;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read() {
        let of = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("content-range", text.parse().unwrap());
            first_byte(&headers)
        };
        assert_eq!(of("bytes 5-9/10"), Some(5));
        assert_eq!(of("bytes 0-0/*"), Some(0));
        assert_eq!(of("bytes */10"), None);
        assert_eq!(of("lines 1-2"), None);
        assert_eq!(first_byte(&HeaderMap::new()), None);
    }
}
