from ruby:3.3 as gems
workdir /gems
copy Gemfile Gemfile.lock ./
run bundle install

from ruby:3.3-slim
copy --from=gems /usr/local/bundle /usr/local/bundle
workdir /srv
copy . .
cmd ["bundle", "exec", "puma"]
