FROM composer:2 AS vendor
WORKDIR /app
COPY composer.json composer.lock ./
RUN composer install --no-dev --no-scripts --prefer-dist

FROM php:8.3-fpm-alpine
RUN docker-php-ext-install pdo_mysql opcache
ENV APP_ENV=prod
WORKDIR /var/www/html
COPY --from=vendor /app/vendor vendor
COPY . .
RUN chown -R www-data:www-data storage
USER www-data
EXPOSE 9000/tcp
CMD ["php-fpm"]
